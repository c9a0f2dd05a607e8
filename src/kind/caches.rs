//! The caches that a project gives to all its tasks that use run-task, as fetch tasks do.

use super::{
    fields::Fields,
    finding::{Finding, Found},
    image::Image,
    yaml::{Node, Value},
};
use crate::cachedir::name::{
    Command, IMAGE_TASK, Image as CacheImage, Mount, Naming, Payload, ScriptDigest, Worker,
};

/// Caches that are for tools, in taskgraph's order.
const TOOLS: [&str; 4] = ["cargo", "npm", "pip", "uv"];
/// The cache for checkouts, which tasks without a checkout do not get.
const CHECKOUT: &str = "checkout";
/// Where docker-worker's tasks work.
const WORKDIR: &str = "/builds/worker";

/// What the names of caches have in them.
pub(super) struct Names<'a> {
    pub(super) trust_domain: &'a str,
    pub(super) level: u8,
    pub(super) image: &'a Image,
    /// taskgraph's run-task, if it is known.
    pub(super) run_task: Option<&'a ScriptDigest>,
}

/// Returns what a fetch task's payload says of caches and volumes.
pub(super) fn payload(config: &Fields<'_>, names: &Names<'_>) -> Found<Payload> {
    let used = match config.required_fields("taskgraph")?.fields("run")? {
        Some(run) => run.node("use-caches").map(|node| (node, run)),
        None => None,
    };
    let (script, tools) = match used {
        None => (None, Vec::new()),
        Some((node, run)) => {
            let tools = tools(node, &run)?;
            if !tools.is_empty() && names.run_task.is_none() {
                let text = "`taskgraph.run.use-caches` gives fetch tasks caches, whose names depend on taskgraph's run-task";
                return Err(Finding::at(node, text).hint("name that file by --run-task"));
            }
            (names.run_task, tools)
        }
    };
    let image = match names.image.json.as_str() {
        Some(name) => CacheImage::Named(name.to_owned()),
        None => CacheImage::Task(IMAGE_TASK.to_owned()),
    };
    let naming = Naming {
        trust_domain: names.trust_domain.to_owned(),
        level: names.level,
        worker: Worker::Docker(Command::RunTask {
            // Without caches nothing has it in its name.
            script: script.cloned().unwrap_or_else(|| ScriptDigest::of(b"")),
            image,
        }),
    };
    let mounts = tools
        .iter()
        .filter_map(|tool| naming.well_known(tool, WORKDIR, &[]));
    let mounts: Vec<Mount> = mounts.collect();
    let volumes: Vec<_> = names.image.volumes.iter().cloned().collect();
    Ok(naming.payload(&mounts, &volumes))
}

/// Returns the tools that get caches.
fn tools(node: &Node, run: &Fields<'_>) -> Found<Vec<&'static str>> {
    let list = match &node.value {
        Value::Bool(true) => return Ok(TOOLS.to_vec()),
        Value::Bool(false) => return Ok(Vec::new()),
        Value::List(list) => list,
        _ => return Err(run.mismatch("use-caches", node, "bool or a list")),
    };
    for name in list {
        let known = name
            .text()
            .is_some_and(|name| name == CHECKOUT || TOOLS.contains(&name));
        if !known {
            let text = "`taskgraph.run.use-caches` has a cache that taskgraph does not know";
            let hint = format!("there are {CHECKOUT}, {}", TOOLS.join(", "));
            return Err(Finding::at(name, text).hint(hint));
        }
    }
    let is_listed = |tool: &&str| list.iter().any(|name| name.text() == Some(*tool));
    Ok(TOOLS.into_iter().filter(is_listed).collect())
}
