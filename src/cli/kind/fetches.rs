//! `kind fetches`: the `MOZ_FETCHES` of a task.

use crate::{
    cli::{
        kind::{json, show},
        ui::Ui,
    },
    error::Result,
    kind::Graph,
};
use serde_json::{Map, Value, json};
use std::convert::Infallible;

/// Runs the verb for a kind and a task. The value is all that goes to standard output, unless asked for as an object.
pub(super) fn run(
    graph: &Graph,
    (kind, task): (&str, &str),
    as_object: bool,
    ui: &Ui,
) -> Result<()> {
    let inputs = graph.inputs(kind, task)?;
    let Ok(value) = inputs.moz_fetches(|_| Ok::<_, Infallible>(None));
    for warning in &inputs.warnings {
        show(ui, "warning", warning);
    }
    if let Some(module) = graph.unknown_transform(kind) {
        ui.warning(&format!(
            "{module} may make something else of this task, which only taskgraph can tell"
        ));
    }
    if !as_object {
        for scope in &inputs.scopes {
            ui.line(&format!("needs the scope {scope}"));
        }
        return Ui::data(&value);
    }
    let mut env = inputs.env.clone();
    if !inputs.entries.is_empty() {
        env.insert("MOZ_FETCHES".into(), value.into());
        env.entry("MOZ_FETCHES_DIR").or_insert("fetches".into());
    }
    let dependencies = inputs.dependencies.iter();
    let dependencies: Map<String, Value> = dependencies
        .map(|(name, label)| (name.clone(), label.as_str().into()))
        .collect();
    Ui::data(&json(&json!({
        "label": inputs.label,
        "env": env,
        "scopes": inputs.scopes,
        "dependencies": dependencies,
    }))?)
}
