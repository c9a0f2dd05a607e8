//! The files of a kind: `kind.yml`, and what it takes tasks from.

use super::{
    fields::Fields,
    finding::{Finding, Found},
    merge::merge,
    yaml::{self, Map, Node, Place, Value},
};
use crate::{error, fs};
use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// Transforms of taskgraph that leave `fetches:` and dependencies of tasks as they are, or do what is done here, too.
const TRANSFORMS: &[&str] = &[
    "taskgraph.transforms.cached_tasks",
    "taskgraph.transforms.code_review",
    "taskgraph.transforms.docker_image",
    "taskgraph.transforms.fetch",
    "taskgraph.transforms.notify",
    "taskgraph.transforms.run",
    "taskgraph.transforms.task",
];

/// The loaders that take tasks from the files as they are.
const LOADERS: &[&str] = &[
    "taskgraph.loader.transform:loader",
    "taskgraph.loader.default:loader",
];

/// A kind, as its `kind.yml` describes it.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) name: String,
    pub(super) node: Node,
    /// The modules that make tasks of it, in order.
    pub(super) transforms: Vec<String>,
    /// The kinds that its tasks may depend on.
    pub(super) dependencies: Vec<String>,
    directory: PathBuf,
    loaded: OnceLock<Found<Loaded>>,
}

/// What the files of a kind hold.
#[derive(Debug, Default)]
struct Loaded {
    tasks: Vec<RawTask>,
    odd: Vec<Finding>,
}

/// A task as it is written down, with defaults.
#[derive(Clone, Debug)]
pub(super) struct RawTask {
    pub(super) name: String,
    pub(super) label: String,
    pub(super) kind: String,
    /// Where its name is.
    pub(super) place: Place,
    pub(super) node: Node,
    /// Without the defaults.
    pub(super) own: Node,
}

/// Reads a file. The findings are what is odd about it.
pub(super) fn read(path: &Path) -> Found<(Node, Vec<Finding>)> {
    let text = fs::read_to_string(path).map_err(|err| Finding::nowhere(error::chain(&err)))?;
    yaml::parse(&text, &path.into())
}

impl Kind {
    /// Reads the `kind.yml` in a directory, which is named after the kind.
    pub(super) fn read(directory: PathBuf, name: &str, odd: &mut Vec<Finding>) -> Found<Self> {
        let (node, doubled) = read(&directory.join("kind.yml"))?;
        odd.extend(doubled);
        let fields = Fields::of(&node, "")?;
        let transforms = fields.texts("transforms")?.into_iter();
        let transforms = transforms.map(|module| {
            module
                .strip_suffix(":transforms")
                .unwrap_or(module)
                .to_owned()
        });
        let dependencies = fields.texts("kind-dependencies")?.into_iter();
        Ok(Self {
            name: name.to_owned(),
            transforms: transforms.collect(),
            dependencies: dependencies.map(str::to_owned).collect(),
            directory,
            loaded: OnceLock::new(),
            node,
        })
    }

    /// Whether its tasks fetch something.
    pub(super) fn is_fetch(&self) -> bool {
        let mut transforms = self.transforms.iter();
        transforms.any(|module| module.ends_with("taskgraph.transforms.fetch"))
    }

    /// Whether it makes tasks by the digest of what they depend on.
    pub(super) fn is_cached(&self) -> bool {
        let mut transforms = self.transforms.iter();
        transforms.any(|module| module.ends_with("taskgraph.transforms.cached_tasks"))
    }

    /// Returns a module that may make other tasks of what the files say, such as one of the project's own.
    pub(super) fn unknown_transform(&self) -> Option<&str> {
        let mut transforms = self.transforms.iter().map(String::as_str);
        transforms.find(|module| !TRANSFORMS.contains(module))
    }

    /// Returns the tasks in the order of the files, which are read once.
    pub(super) fn tasks(&self) -> Found<&[RawTask]> {
        match self.loaded.get_or_init(|| self.load()) {
            Ok(loaded) => Ok(&loaded.tasks),
            Err(err) => Err(err.clone()),
        }
    }

    /// Returns what is odd about the files that the tasks are in, when they have been read.
    pub(super) fn odd(&self) -> &[Finding] {
        match self.loaded.get() {
            Some(Ok(loaded)) => &loaded.odd,
            _ => &[],
        }
    }

    fn load(&self) -> Found<Loaded> {
        let fields = Fields::of(&self.node, "")?;
        if let Some(loader) = fields
            .text("loader")?
            .filter(|loader| !LOADERS.contains(loader))
        {
            let text = format!("only taskgraph can tell what tasks the loader `{loader}` makes");
            return Err(Finding::at(fields.required("loader")?, text));
        }
        let defaults = fields.fields("task-defaults")?.map(|fields| fields.map);
        fields.not_null("tasks")?;
        fields.not_null("tasks-from")?;
        let mut loaded = Loaded::default();
        if let Some(own) = fields.fields("tasks")? {
            self.add(&mut loaded.tasks, own.map, defaults)?;
        }
        for name in fields.texts("tasks-from")? {
            let (node, doubled) = read(&self.directory.join(name))?;
            loaded.odd.extend(doubled);
            let mut map = Fields::of(&node, "")?.map.clone();
            let special = map.remove("task-defaults").filter(|node| !node.is_null());
            let special = special
                .as_ref()
                .map(|node| Fields::of(node, "task-defaults"));
            let special = special.transpose()?.map(|fields| fields.map);
            let both = defaults
                .zip(special)
                .map(|(general, special)| merge(general, special));
            self.add(
                &mut loaded.tasks,
                &map,
                both.as_ref().or(special).or(defaults),
            )?;
        }
        Ok(loaded)
    }

    fn add(&self, tasks: &mut Vec<RawTask>, map: &Map, defaults: Option<&Map>) -> Found<()> {
        for (key, own) in map.entries() {
            let name = key.text().ok_or_else(|| {
                let got = key.value.type_name();
                Finding::at(
                    key,
                    format!("the name of a task: expected `str`, got `{got}`"),
                )
                .hint("put it in quotes")
            })?;
            let task = Fields::of(own, name)?.map;
            let merged = match defaults {
                Some(defaults) => merge(defaults, task),
                None => task.clone(),
            };
            let label = match merged.get("label").and_then(Node::text) {
                _ if self.is_fetch() => format!("fetch-{name}"),
                Some(label) => label.to_owned(),
                None => format!("{}-{name}", self.name),
            };
            tasks.push(RawTask {
                name: name.to_owned(),
                label,
                kind: self.name.clone(),
                place: key.place.clone(),
                node: Node {
                    value: Value::Map(merged),
                    ..own.clone()
                },
                own: own.clone(),
            });
        }
        Ok(())
    }
}
