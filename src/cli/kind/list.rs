//! `kind list`: one line per task.

use crate::{
    cli::{kind::show, ui::Ui},
    error::Result,
    kind::{Graph, Upstream},
};

/// Runs the verb.
pub(super) fn run(graph: &Graph, ui: &Ui) -> Result<()> {
    let mut rows = Vec::new();
    for task in graph.fetches() {
        let from = match &task.upstream {
            Upstream::StaticUrl(file) => file.url.clone(),
            Upstream::Git(git) => format!("{} {}", git.repo, git.revision),
        };
        let aliases = Vec::from_iter(task.alias.clone());
        rows.push([task.label.clone(), aliases.join(","), task.artifact(), from]);
    }
    for task in graph.toolchains() {
        let artifact = task.artifact.clone();
        rows.push([
            task.label.clone(),
            task.aliases.join(","),
            artifact,
            String::new(),
        ]);
    }
    let width = |column: usize| {
        let lengths = rows.iter().map(|row| row[column].chars().count());
        lengths.max().unwrap_or(0)
    };
    let widths = [width(0), width(1), width(2)];
    for [label, aliases, artifact, from] in &rows {
        let [one, two, three] = widths;
        let line = format!("{label:one$}  {aliases:two$}  {artifact:three$}  {from}");
        Ui::data(line.trim_end())?;
    }
    for err in graph.errors() {
        show(ui, "warning", err);
    }
    Ok(())
}
