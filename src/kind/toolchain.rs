//! [`Toolchain`]: a task that builds something from fetched inputs, and what decides on its result.

use super::{
    config::Config,
    fields::Fields,
    finding::{Finding, Found},
    keyed_by,
    source::RawTask,
    tracked,
    yaml::{Node, Place, Value},
};
use std::path::{Component, Path};

/// Where toolchains' scripts are.
const SCRIPTS: &str = "taskcluster/scripts/toolchain/";

/// A task of the toolchain kind.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// Its name.
    pub name: String,
    /// Kind and name, unless it has a label of its own.
    pub label: String,
    /// The name of the kind.
    pub kind: String,
    /// Other names of it.
    pub aliases: Vec<String>,
    /// The full name of its artifact.
    pub artifact: String,
    /// Where it is defined.
    pub place: Place,
    /// Variables for the tasks that use it.
    pub(super) env: Option<Node>,
    pub(super) raw: RawTask,
}

impl Toolchain {
    /// Checks what a file says of a task. It is no toolchain if nothing says which artifact it makes.
    pub(super) fn new(raw: &RawTask) -> Found<Option<Self>> {
        let fields = Fields::of(&raw.node, "")?;
        let run = fields.fields("run")?;
        let attributes = fields.fields("attributes")?;
        let sources = [run.as_ref(), attributes.as_ref()];
        let mut artifact = None;
        let mut aliases = Vec::new();
        let mut env = None;
        for source in sources.into_iter().flatten() {
            artifact = artifact.or(source.text("toolchain-artifact")?);
            env = env.or(source.node("toolchain-env"));
            aliases.extend(match source.node("toolchain-alias") {
                // Lists are Gecko's.
                Some(node) if node.list().is_some() => source.texts("toolchain-alias")?,
                _ => Vec::from_iter(source.text("toolchain-alias")?),
            });
        }
        let Some(artifact) = artifact else {
            return match run {
                Some(run) if run.text("using")? == Some("toolchain-script") => {
                    Err(run.missing("toolchain-artifact"))
                }
                _ => Ok(None),
            };
        };
        Ok(Some(Self {
            name: raw.name.clone(),
            label: raw.label.clone(),
            kind: raw.kind.clone(),
            aliases: aliases.into_iter().map(str::to_owned).collect(),
            artifact: artifact.to_owned(),
            place: raw.place.clone(),
            env: env.cloned(),
            raw: raw.clone(),
        }))
    }

    /// Returns what decides on the result apart from other tasks: files, artifact, image and arguments.
    pub(super) fn digest_data(&self, config: &Config, root: &Path) -> Found<Vec<String>> {
        let fields = Fields::of(&self.raw.node, "")?;
        let run = fields.required_fields("run")?;
        if run.required_text("using")? != "toolchain-script" {
            let text = "only a task with `using: toolchain-script` has a digest of its own";
            return Err(Finding::at(run.required("using")?, text));
        }
        let mut files: Vec<_> = run
            .texts("resources")?
            .into_iter()
            .map(str::to_owned)
            .collect();
        files.push(normalised(&format!(
            "{SCRIPTS}{}",
            run.required_text("script")?
        )));
        let mut data = vec![tracked::digest(root, &files)?, self.artifact.clone()];
        data.extend(image(&fields, config)?);
        data.extend(run.texts("arguments")?.into_iter().map(str::to_owned));
        Ok(data)
    }
}

/// Returns the name of the docker image that the repository itself defines.
fn image(task: &Fields, config: &Config) -> Found<Option<String>> {
    let worker = task.fields("worker")?;
    if let Some(worker) = &worker
        && worker.map.get("docker-image").is_some()
    {
        let image = worker.node("docker-image");
        let name = image
            .and_then(Node::map)
            .and_then(|image| image.get("in-tree"));
        return Ok(name.and_then(Node::text).map(str::to_owned));
    }
    let is_docker = implementation(task.required("worker-type")?, config)? == "docker-worker";
    Ok(is_docker.then(|| "toolchain-build".to_owned()))
}

/// Returns what a type of worker is implemented by.
fn implementation<'a>(worker_type: &Node, config: &'a Config) -> Found<&'a str> {
    let fields = Fields::of(&config.node, "")?;
    let Some(workers) = fields.fields("workers")? else {
        return Ok("docker-worker");
    };
    let aliases = workers.required_fields("aliases")?;
    let name = worker_type.text().unwrap_or_default();
    if let Some(node) = keyed_by::alternative(aliases.map, name)? {
        return Fields::of(node, "workers.aliases")?.required_text("implementation");
    }
    let text = format!("`{name}` is not among the `workers.aliases` of taskcluster/config.yml");
    let hint = "give the task a `worker.docker-image`, which is all that this matters for";
    Err(Finding::at(worker_type, text).hint(hint))
}

/// Returns the labels of tasks that a task names as its dependencies, by the names it has for them.
pub(super) fn dependencies(task: &Fields) -> Found<Vec<(String, String)>> {
    let Some(dependencies) = task.fields("dependencies")? else {
        return Ok(Vec::new());
    };
    let pairs = dependencies
        .map
        .entries()
        .filter_map(|(key, node)| match &node.value {
            Value::Text(label) => Some(
                dependencies
                    .key(key)
                    .map(|key| (key.to_owned(), label.clone())),
            ),
            // Resolved by transforms of the project.
            _ => None,
        });
    pairs.collect()
}

/// Removes `.` and `..` as `posixpath.normpath` does.
fn normalised(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(part) => parts.extend(part.to_str()),
            Component::ParentDir if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            Component::ParentDir => parts.push(".."),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    parts.join("/")
}
