//! [`Graph`]: all that the files of a repository say about fetches and what uses them.

use super::{
    config::Config,
    fetch_task::{FetchTask, no_such_task},
    finding::{Finding, Found},
    inputs::{Inputs, Provider, Resolver},
    lint,
    source::{self, Kind, RawTask},
    toolchain::Toolchain,
    yaml::Place,
};
use crate::{error::Result, fs};
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

/// The part of a task graph that is about fetches.
#[derive(Debug)]
pub struct Graph {
    root: PathBuf,
    config: Arc<Config>,
    kinds: BTreeMap<String, Kind>,
    fetches: Vec<FetchTask>,
    toolchains: Vec<Toolchain>,
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
}

impl Graph {
    /// Reads the files of a repository. What is wrong with single tasks is kept as [`Graph::errors`].
    ///
    /// # Errors
    /// [`crate::Error::Usage`] when there is no task graph or a file as a whole is wrong.
    pub fn load(root: &Path) -> Result<Self> {
        Ok(Self::found(root)?)
    }

    fn found(root: &Path) -> Found<Self> {
        let directory = root.join("taskcluster");
        let (node, mut warnings) = source::read(&directory.join("config.yml")).map_err(|err| {
            err.hint("run this in the root of a repository with a task graph, or give --root DIR")
        })?;
        let (config, odd) = Config::new(&node)?;
        warnings.extend(odd);
        let mut graph = Self {
            root: root.to_owned(),
            config: Arc::new(config),
            kinds: kinds(&directory.join("kinds"), &mut warnings)?,
            fetches: Vec::new(),
            toolchains: Vec::new(),
            errors: Vec::new(),
            warnings,
        };
        graph.add_fetches()?;
        graph.add_toolchains();
        Ok(graph)
    }

    fn add_fetches(&mut self) -> Found<()> {
        let mut labels: HashMap<&str, &Place> = HashMap::new();
        for kind in self.kinds.values().filter(|kind| kind.is_fetch()) {
            for raw in kind.tasks()? {
                let task = match labels.insert(&raw.label, &raw.place) {
                    Some(first) => {
                        let text = format!("there is already a task with this label: {first}");
                        Err(Finding::new(&raw.place, text))
                    }
                    None => FetchTask::new(raw, &self.config, &self.root),
                };
                let label = |finding: Finding| finding.of_task(&raw.label);
                match task {
                    Ok(task) => {
                        let odd = lint::fetch(&task);
                        self.warnings.extend(odd.into_iter().map(label));
                        self.fetches.push(task);
                    }
                    Err(err) => self.errors.push(label(err)),
                }
            }
            self.warnings.extend_from_slice(kind.odd());
        }
        self.warnings.extend(lint::fetch_aliases(&self.fetches));
        Ok(())
    }

    /// Adds the tasks of the toolchain kind. Where modules that are not known here have a hand in them, what is wrong with
    /// what they are given may be right in what they make of it.
    fn add_toolchains(&mut self) {
        let Some(kind) = self.kinds.get("toolchain").filter(|kind| !kind.is_fetch()) else {
            return;
        };
        let is_final = kind.unknown_transform().is_none();
        let wrong = if is_final {
            &mut self.errors
        } else {
            &mut self.warnings
        };
        for raw in kind.tasks().unwrap_or_else(|err| {
            wrong.push(err);
            &[]
        }) {
            match Toolchain::new(raw) {
                Ok(task) => self.toolchains.extend(task),
                Err(err) => wrong.push(err.of_task(&raw.label)),
            }
        }
        self.warnings.extend_from_slice(kind.odd());
        if is_final {
            self.warnings
                .extend(lint::toolchain_aliases(&self.toolchains));
        }
    }

    /// Returns the directory that the files are below.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns what is wrong with single tasks. They are not among those of the graph.
    #[must_use]
    pub fn errors(&self) -> &[Finding] {
        &self.errors
    }

    /// Returns what is odd.
    #[must_use]
    pub fn warnings(&self) -> &[Finding] {
        &self.warnings
    }

    /// Returns the tasks that fetch something, in the order of the files.
    #[must_use]
    pub fn fetches(&self) -> &[FetchTask] {
        &self.fetches
    }

    /// Returns the toolchains, in the order of the files.
    #[must_use]
    pub fn toolchains(&self) -> &[Toolchain] {
        &self.toolchains
    }

    /// Returns a fetch task by its name, label or alias, in this order.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] when there is none, or something is wrong with it.
    pub fn fetch(&self, name: &str) -> Result<&FetchTask> {
        self.refuse_broken(&[name, &format!("fetch-{name}")])?;
        let tasks = || self.fetches.iter();
        let found = tasks().find(|task| task.name == name || task.label == name);
        let found = found.or_else(|| tasks().find(|task| task.alias.as_deref() == Some(name)));
        let known = || tasks().map(|task| task.name.as_str()).collect::<Vec<_>>();
        Ok(found.ok_or_else(|| no_such_task(name, &known()))?)
    }

    /// Returns a toolchain by its name, label or alias, in this order.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] when there is none, or something is wrong with it.
    pub fn toolchain(&self, name: &str) -> Result<&Toolchain> {
        self.refuse_broken(&[name, &format!("toolchain-{name}")])?;
        let tasks = || self.toolchains.iter();
        let found = tasks().find(|task| task.name == name || task.label == name);
        let found =
            found.or_else(|| tasks().find(|task| task.aliases.iter().any(|alias| alias == name)));
        let known = || tasks().map(|task| task.name.as_str()).collect::<Vec<_>>();
        Ok(found.ok_or_else(|| no_such_task(name, &known()))?)
    }

    fn refuse_broken(&self, labels: &[&str]) -> Found<()> {
        let concerns = |finding: &&Finding| {
            let label = finding.task.as_deref();
            label.is_some_and(|label| labels.contains(&label))
        };
        self.errors
            .iter()
            .find(concerns)
            .map_or(Ok(()), |err| Err(err.clone()))
    }

    /// Returns what a task of any kind gets by its `fetches:`; the task is named by name or label.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] when there is no such task, or one of its inputs.
    pub fn inputs(&self, kind: &str, task: &str) -> Result<Inputs> {
        Ok(self.inputs_found(kind, task)?)
    }

    fn inputs_found(&self, kind: &str, task: &str) -> Found<Inputs> {
        let known = || self.kinds.keys().map(String::as_str).collect::<Vec<_>>();
        let kind = self.kinds.get(kind).ok_or_else(|| {
            let text = format!("there is no kind `{}`", kind.escape_debug());
            Finding::nowhere(text).hint(format!("there are: {}", known().join(", ")))
        })?;
        let siblings = kind.tasks()?;
        let found = siblings
            .iter()
            .find(|raw| raw.name == task || raw.label == task);
        let names = || {
            siblings
                .iter()
                .map(|raw| raw.name.as_str())
                .collect::<Vec<_>>()
        };
        let found = found.ok_or_else(|| no_such_task(task, &names()))?;
        self.inputs_of(kind, siblings, found)
    }

    pub(super) fn inputs_of(
        &self,
        kind: &Kind,
        siblings: &[RawTask],
        task: &RawTask,
    ) -> Found<Inputs> {
        let resolver = Resolver {
            graph: self,
            kind,
            siblings,
        };
        resolver
            .inputs(task)
            .map_err(|err| err.of_task(&task.label))
    }

    /// Returns who makes what an entry of `fetches:` names, as far as tasks of `kind` may depend on it.
    pub(super) fn provider(
        &self,
        kind: &Kind,
        from: &str,
        name: &str,
    ) -> Found<Option<Provider<'_>>> {
        if from != kind.name && !kind.dependencies.iter().any(|known| known == from) {
            return Ok(None);
        }
        let label = format!("{from}-{name}");
        if from == "fetch" {
            // Other kinds may fetch, too, but taskgraph looks for `fetch:` only in the kind of this name.
            self.refuse_broken(&[&label])?;
            let tasks = || self.fetches.iter().filter(|task| task.kind == from);
            // Of several, the last one counts.
            let found = tasks().rfind(|task| task.alias.as_deref() == Some(name));
            let found = found.or_else(|| tasks().find(|task| task.label == label));
            return Ok(found.map(|task| Provider {
                label: task.label.clone(),
                artifact: task.artifact(),
                env: None,
            }));
        }
        let tasks = || self.toolchains.iter().filter(|task| task.kind == from);
        let found = tasks().rfind(|task| task.aliases.iter().any(|alias| alias == name));
        let found = found.or_else(|| tasks().find(|task| task.label == label));
        if found.is_none() {
            self.refuse_broken(&[&label])?;
        }
        Ok(found.map(|task| Provider {
            label: task.label.clone(),
            artifact: task.artifact.clone(),
            env: task.env.as_ref(),
        }))
    }

    /// Returns the tasks of a kind, if it is known which it has.
    pub(super) fn tasks_of(&self, kind: &str) -> Option<&[RawTask]> {
        self.kinds.get(kind)?.tasks().ok()
    }

    /// Returns a module that may make other tasks of a kind than are known here, such as one of the project's own.
    #[must_use]
    pub fn unknown_transform(&self, kind: &str) -> Option<&str> {
        self.kinds.get(kind)?.unknown_transform()
    }

    /// Looks at what uses the fetches: errors first, then what is only odd.
    #[must_use]
    pub fn check_uses(&self) -> (Vec<Finding>, Vec<Finding>) {
        let (mut errors, mut warnings) = (Vec::new(), Vec::new());
        for kind in self.kinds.values().filter(|kind| !kind.is_fetch()) {
            // What loaders of the project make of the files is not known.
            let Ok(tasks) = kind.tasks() else {
                continue;
            };
            for task in tasks {
                match self.inputs_of(kind, tasks, task) {
                    Ok(inputs) => warnings.extend(inputs.warnings),
                    Err(err) if kind.unknown_transform().is_some() => warnings.push(err),
                    Err(err) => errors.push(err),
                }
            }
        }
        (errors, warnings)
    }

    pub(super) fn config(&self) -> &Arc<Config> {
        &self.config
    }

    pub(super) fn kind(&self, name: &str) -> Option<&Kind> {
        self.kinds.get(name)
    }
}

/// Reads all `kind.yml`. Files of kinds that have nothing to do with fetches are only read, not judged.
fn kinds(directory: &Path, odd: &mut Vec<Finding>) -> Found<BTreeMap<String, Kind>> {
    let names = fs::list(directory).map_err(|err| Finding::nowhere(crate::error::chain(&err)))?;
    let mut kinds = BTreeMap::new();
    for name in names {
        let (Some(name), path) = (name.to_str(), directory.join(&name)) else {
            continue;
        };
        if path.join("kind.yml").is_file() {
            let kind = Kind::read(path, name, odd)?;
            kinds.insert(name.to_owned(), kind);
        }
    }
    Ok(kinds)
}
