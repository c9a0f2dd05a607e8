//! `kind check`: all that is wrong or odd, at once.

use crate::{
    cli::{kind::show, ui::Ui},
    error::{Error, Result},
    kind::{Finding, Graph},
};

/// Runs the verb.
pub(super) fn run(graph: &Graph, strict: bool, ui: &Ui) -> Result<()> {
    let (wrong_uses, odd_uses) = graph.check_uses();
    let errors = sorted(graph.errors().iter().chain(&wrong_uses));
    let warnings = sorted(graph.warnings().iter().chain(&odd_uses));
    for warning in &warnings {
        show(ui, "warning", warning);
    }
    for err in &errors {
        show(ui, "error", err);
    }
    let counted = |number: usize, what: &str| {
        format!("{number} {what}{}", if number == 1 { "" } else { "s" })
    };
    let told = format!(
        "checked {} and {}: {}, {}",
        counted(graph.fetches().len(), "fetch task"),
        counted(graph.toolchains().len(), "toolchain"),
        counted(errors.len(), "error"),
        counted(warnings.len(), "warning")
    );
    if errors.is_empty() && (warnings.is_empty() || !strict) {
        ui.line(&told);
        return Ok(());
    }
    Err(Error::usage(told))
}

/// Sorts findings by where they are.
fn sorted<'a>(findings: impl Iterator<Item = &'a Finding>) -> Vec<&'a Finding> {
    let mut findings: Vec<_> = findings.collect();
    findings.sort_by_key(|finding| {
        let place = finding.place.as_ref();
        place.map(|place| (place.file.clone(), place.line))
    });
    findings
}
