//! The docker image that a fetch task runs in.

use super::{
    fetch_task::FetchTask,
    fields::Fields,
    finding::{Finding, Found},
    graph::Graph,
    yaml::{Node, Value},
};
use crate::{error, fs};
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;

/// Where image tasks put what they make.
const ARTIFACT: &str = "public/image.tar.zst";

/// An image, as a task refers to it.
pub(super) struct Image {
    pub(super) json: Json,
    /// The task that makes it.
    pub(super) task: Option<String>,
    /// The volumes that its Dockerfile declares.
    pub(super) volumes: BTreeSet<String>,
}

impl Image {
    pub(super) fn new(task: &FetchTask, graph: &Graph) -> Found<Self> {
        match &task.docker_image {
            None => Self::in_tree("fetch", graph),
            Some(node) => Self::given(node, graph),
        }
    }

    fn given(node: &Node, graph: &Graph) -> Found<Self> {
        if let Value::Text(name) = &node.value {
            return Ok(Self::outside(json!(name)));
        }
        let unknown =
            || Finding::at(node, "unknown docker image type").hint("use `in-tree` or `indexed`");
        let fields = Fields::of(node, "docker-image").map_err(|_other| unknown())?;
        if let Some(name) = fields.text("in-tree")? {
            return Self::in_tree(name, graph);
        }
        let namespace = fields.text("indexed")?.ok_or_else(unknown)?;
        let image = json!({"type": "indexed-image", "path": ARTIFACT, "namespace": namespace});
        Ok(Self::outside(image))
    }

    fn outside(json: Json) -> Self {
        Self {
            json,
            task: None,
            volumes: BTreeSet::new(),
        }
    }

    fn in_tree(name: &str, graph: &Graph) -> Found<Self> {
        let by = json!({"task-reference": "<docker-image>"});
        Ok(Self {
            json: json!({"type": "task-image", "path": ARTIFACT, "taskId": by}),
            task: Some(format!("docker-image-{name}")),
            volumes: volumes(name, graph)?,
        })
    }
}

/// Reads the volumes from an image's Dockerfile.
fn volumes(image: &str, graph: &Graph) -> Found<BTreeSet<String>> {
    let config = Fields::of(&graph.config().node, "")?;
    let kind = config.text("docker-image-kind")?.unwrap_or("docker-image");
    let mut tasks = graph.tasks_of(kind).unwrap_or_default().iter();
    let task = tasks.find(|task| task.name == image);
    let definition = task.and_then(|task| task.own.map()?.get("definition")?.text());
    let directory = graph.root().join("taskcluster/docker");
    let file = directory
        .join(definition.unwrap_or(image))
        .join("Dockerfile");
    let text = fs::read_to_string(&file).map_err(|err| Finding::nowhere(error::chain(&err)))?;
    let mut volumes = BTreeSet::new();
    for line in text.lines() {
        let Some(declared) = line.trim().strip_prefix("VOLUME ") else {
            continue;
        };
        if declared.trim_start().starts_with('[') {
            let problem = "cannot parse array syntax for VOLUME; convert to multiple entries";
            return Err(Finding::nowhere(format!("{}: {problem}", file.display())));
        }
        volumes.extend(declared.split_whitespace().map(str::to_owned));
    }
    Ok(volumes)
}
