//! `kind tasks`: fetch tasks as taskgraph would create them.

use crate::{
    cli::{
        args,
        kind::{json, parameters, run_task},
        ui::Ui,
    },
    error::Result,
    kind::{FetchTask, Graph, Parameters},
};
use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// Runs the verb.
pub(super) fn run(graph: &Graph, args: &args::KindTasks) -> Result<()> {
    let (parameters, push) = parameters(&args.push)?;
    let tasks = chosen(graph, &args.names)?;
    if !args.json && !args.full {
        for task in tasks {
            Ui::data(&format!(
                "{} {} {}",
                task.label,
                task.digest(),
                task.artifact()
            ))?;
        }
        return Ok(());
    }
    let run_task = run_task(args.run_task.as_deref())?;
    let mut object = Map::new();
    for task in tasks {
        let value = if args.full {
            graph.definition(task, &parameters, &push, run_task.as_ref())?
        } else {
            summary(task, &parameters)
        };
        object.insert(task.name.clone(), value);
    }
    Ui::data(&json(&object)?)
}

/// Returns the tasks with these names, or all if none is given and nothing is wrong with any.
pub(super) fn chosen<'a>(graph: &'a Graph, names: &[String]) -> Result<Vec<&'a FetchTask>> {
    if !names.is_empty() {
        return names.iter().map(|name| graph.fetch(name)).collect();
    }
    match graph
        .errors()
        .iter()
        .find(|finding| is_fetch(finding.task.as_deref()))
    {
        Some(err) => Err(err.clone().into()),
        None => Ok(graph.fetches().iter().collect()),
    }
}

/// Returns the tasks with these names, each once.
pub(super) fn distinct<'a>(graph: &'a Graph, names: &[String]) -> Result<Vec<&'a FetchTask>> {
    let mut seen = HashSet::new();
    let mut tasks = chosen(graph, names)?;
    tasks.retain(|task| seen.insert(&task.label));
    Ok(tasks)
}

/// Whether a finding may be about a fetch task.
fn is_fetch(label: Option<&str>) -> bool {
    label.is_none_or(|label| label.starts_with("fetch-"))
}

fn summary(task: &FetchTask, parameters: &Parameters) -> Value {
    json!({
        "label": task.label,
        "command": task.command(),
        "artifact": task.artifact(),
        "alias": task.alias,
        "digest": task.digest(),
        "index_search": task.index_search(parameters),
        "routes": task.routes(parameters),
        "expires_after": task.expires_after(parameters),
        "scopes": task.scopes(),
        "env_names": task.env().keys().collect::<Vec<_>>(),
    })
}
