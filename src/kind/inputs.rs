//! [`Inputs`]: what a task's `fetches:` become, which is `MOZ_FETCHES`.

use super::{
    fields::Fields,
    finding::{Finding, Found},
    graph::Graph,
    source::{Kind, RawTask},
    toolchain::dependencies,
    yaml::Node,
};
use serde_json::{Map as JsonMap, Value as Json};
use std::{collections::BTreeSet, fmt::Write};

/// What the names of a task's artifacts begin with, unless it says something else.
const PREFIX: &str = "public/build";

/// What a task gets before it begins.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The label of the task.
    pub label: String,
    /// In the order in which they are placed: a later one goes before an earlier one.
    pub entries: Vec<Input>,
    /// The scopes for private artifacts, which are got through the proxy.
    pub scopes: Vec<String>,
    /// Variables that toolchains set for the tasks that use them.
    pub env: JsonMap<String, Json>,
    /// Labels of tasks by the names that this one has for them.
    pub dependencies: Vec<(String, String)>,
    /// What is odd.
    pub warnings: Vec<Finding>,
}

/// An artifact of another task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The full name of the artifact.
    pub artifact: String,
    /// The name by which the definition refers to the task, as `<…>`.
    pub reference: String,
    /// The label of that task.
    pub label: String,
    /// The directory it goes to, below the destination.
    pub dest: Option<String>,
    /// Whether it is extracted.
    pub extract: bool,
    /// Whether the task's chain of trust must vouch for it.
    pub verify_hash: bool,
}

impl Inputs {
    /// Returns the value of `MOZ_FETCHES`, to the character as taskgraph writes it. `task_id` tells the id of an input's
    /// task; without one, the `<label>` stays that taskgraph has there before tasks are created.
    ///
    /// # Errors
    /// Whatever `task_id` fails with.
    pub fn moz_fetches<E>(
        &self,
        mut task_id: impl FnMut(&Input) -> Result<Option<String>, E>,
    ) -> Result<String, E> {
        let mut entries = Vec::new();
        for input in &self.entries {
            let id = task_id(input)?;
            // Sorted by key.
            let mut entry = JsonMap::new();
            entry.insert("artifact".into(), Json::from(input.artifact.as_str()));
            if let Some(dest) = &input.dest {
                entry.insert("dest".into(), Json::from(dest.as_str()));
            }
            entry.insert("extract".into(), Json::from(input.extract));
            entry.insert(
                "task".into(),
                Json::from(id.unwrap_or_else(|| format!("<{}>", input.reference))),
            );
            if input.verify_hash {
                entry.insert("verify-hash".into(), Json::from(true));
            }
            entries.push(Json::Object(entry));
        }
        Ok(as_ascii(&Json::from(entries).to_string()))
    }
}

/// Escapes what is not ASCII, as Python's `json` does. In JSON that can only be within strings.
fn as_ascii(json: &str) -> String {
    let mut ascii = String::new();
    for char in json.chars() {
        if char.is_ascii() {
            ascii.push(char);
        } else {
            for unit in char.encode_utf16(&mut [0; 2]) {
                // Never fails.
                let _ = write!(ascii, "\\u{unit:04x}");
            }
        }
    }
    ascii
}

/// Turns the `fetches:` of a task into its inputs.
pub(super) struct Resolver<'a> {
    pub(super) graph: &'a Graph,
    pub(super) kind: &'a Kind,
    /// The tasks of that kind.
    pub(super) siblings: &'a [RawTask],
}

impl Resolver<'_> {
    pub(super) fn inputs(&self, task: &RawTask) -> Found<Inputs> {
        let fields = Fields::of(&task.node, "")?;
        let mut inputs = Inputs {
            label: task.label.clone(),
            entries: Vec::new(),
            scopes: Vec::new(),
            env: JsonMap::new(),
            dependencies: dependencies(&fields)?,
            warnings: Vec::new(),
        };
        let Some(fetches) = fields.fields("fetches")? else {
            return Ok(inputs);
        };
        let mut kinds: Vec<_> = fetches.keys()?.into_iter().map(|(key, _)| key).collect();
        kinds.sort_unstable();
        for from in kinds {
            let list = fetches.list(from)?.iter();
            let mut entries = list
                .map(|node| Entry::new(node, from))
                .collect::<Found<Vec<_>>>()?;
            entries.sort_by(|one, other| one.name.cmp(other.name));
            for entry in entries {
                let input = match from {
                    "fetch" | "toolchain" => self.by_alias(from, entry, &mut inputs)?,
                    _ => self.by_dependency(from, entry, &mut inputs)?,
                };
                inputs.entries.push(input);
            }
        }
        inputs.scopes = scopes(&inputs.entries);
        warn_of_doubles(&mut inputs, task);
        Ok(inputs)
    }

    fn by_alias(&self, from: &str, entry: Entry, inputs: &mut Inputs) -> Found<Input> {
        let provider = self.graph.provider(self.kind, from, entry.name)?;
        let provider = provider.ok_or_else(|| {
            let text = format!("Missing fetch task for {}: {}", inputs.label, entry.name);
            let finding = Finding::at(entry.node, text);
            if from == self.kind.name || self.kind.dependencies.iter().any(|kind| kind == from) {
                finding.hint(format!("no task of the kind {from} has this name or alias"))
            } else {
                let kind = &self.kind.name;
                finding.hint(format!(
                    "`{from}` is not among the `kind-dependencies` of the kind {kind}"
                ))
            }
        })?;
        if let Some(Json::Object(env)) = provider.env.and_then(Node::to_json) {
            inputs.env.extend(env);
        }
        let label = provider.label;
        match inputs
            .dependencies
            .iter_mut()
            .find(|(name, _)| *name == label)
        {
            Some(dependency) => dependency.1.clone_from(&label),
            None => inputs.dependencies.push((label.clone(), label.clone())),
        }
        Ok(entry.input(provider.artifact, label.clone(), label))
    }

    fn by_dependency(&self, from: &str, entry: Entry, inputs: &mut Inputs) -> Found<Input> {
        let dependency = inputs.dependencies.iter().find(|(name, _)| name == from);
        let (_, label) = dependency.cloned().ok_or_else(|| {
            let text = format!(
                "{} can't fetch {from} artifacts because it has no {from} dependencies!",
                inputs.label
            );
            Finding::at(entry.node, text)
        })?;
        let prefix = self.artifact_prefix(&label, &entry, inputs)?;
        let artifact = format!("{prefix}/{}", entry.name);
        Ok(entry.input(artifact, from.to_owned(), label))
    }

    /// Returns what the names of another task's artifacts begin with.
    fn artifact_prefix(&self, label: &str, entry: &Entry, inputs: &mut Inputs) -> Found<String> {
        let mut found = self.siblings.iter().find(|task| task.label == label);
        for kind in &self.kind.dependencies {
            // A kind whose tasks are not known here may have it.
            let tasks = self.graph.tasks_of(kind).unwrap_or_default();
            found = found.or_else(|| tasks.iter().find(|task| task.label == label));
        }
        let Some(task) = found else {
            let text = format!(
                "which artifacts {label} has is not known: they are taken to be in {PREFIX}"
            );
            let finding = Finding::at(entry.node, text).of_task(&inputs.label);
            inputs.warnings.push(finding);
            return Ok(PREFIX.to_owned());
        };
        let attributes = Fields::of(&task.node, "")?.fields("attributes")?;
        let prefix =
            attributes.map_or(Ok(None), |attributes| attributes.text("artifact_prefix"))?;
        Ok(prefix
            .filter(|prefix| !prefix.is_empty())
            .unwrap_or(PREFIX)
            .to_owned())
    }
}

/// Who makes an artifact that `fetches:` can name.
pub(super) struct Provider<'a> {
    pub(super) label: String,
    pub(super) artifact: String,
    pub(super) env: Option<&'a Node>,
}

/// An entry of a list in `fetches:`.
struct Entry<'a> {
    node: &'a Node,
    name: &'a str,
    dest: Option<&'a str>,
    extract: bool,
    verify_hash: bool,
}

impl<'a> Entry<'a> {
    fn new(node: &'a Node, from: &str) -> Found<Self> {
        let mut entry = Self {
            node,
            name: "",
            dest: None,
            extract: true,
            verify_hash: false,
        };
        if let Some(name) = node.text() {
            entry.name = name;
            return Ok(entry);
        }
        let fields = Fields::of(node, &format!("fetches.{from}[…]"))?;
        if let Some(unknown) = fields
            .unknown(&["artifact", "dest", "extract", "verify-hash"])?
            .pop()
        {
            return Err(unknown);
        }
        entry.name = fields.required_text("artifact")?;
        entry.dest = fields.text("dest")?;
        fields.not_null("extract")?;
        entry.extract = fields.bool("extract")?.unwrap_or(true);
        entry.verify_hash = fields.bool("verify-hash")?.unwrap_or(false);
        Ok(entry)
    }

    fn input(self, artifact: String, reference: String, label: String) -> Input {
        Input {
            artifact,
            reference,
            label,
            dest: self.dest.map(str::to_owned),
            extract: self.extract,
            verify_hash: self.verify_hash,
        }
    }
}

/// Returns the scopes for what is not public.
fn scopes(inputs: &[Input]) -> Vec<String> {
    let private = inputs
        .iter()
        .filter(|input| !input.artifact.starts_with("public/"));
    let directories = private.map(|input| {
        let directory = input.artifact.rsplit_once('/');
        directory.map_or("", |(directory, _)| directory)
    });
    let directories: BTreeSet<_> = directories.collect();
    let scopes = directories.into_iter();
    scopes
        .map(|directory| format!("queue:get-artifact:{directory}/*"))
        .collect()
}

/// Warns of artifacts that a task gets twice, which the real code does not look at.
fn warn_of_doubles(inputs: &mut Inputs, task: &RawTask) {
    let mut seen = BTreeSet::new();
    for input in &inputs.entries {
        if !seen.insert((&input.label, &input.artifact, &input.dest)) {
            let text = format!("gets {} of {} twice", input.artifact, input.label);
            let finding = Finding::new(&task.place, text).of_task(&task.label);
            inputs.warnings.push(finding);
        }
    }
}
