//! What is allowed but hardly meant.

use super::{
    fetch_task::FetchTask,
    fields::Fields,
    finding::Finding,
    toolchain::Toolchain,
    upstream::{GIT_KEYS, Git, STATIC_URL_KEYS, StaticUrl, Upstream},
    yaml::Place,
};
use std::collections::{HashMap, HashSet};
use url::Url;

/// Returns what is odd about a task.
pub(super) fn fetch(task: &FetchTask) -> Vec<Finding> {
    let fetch = Fields::of(&task.raw.node, "").and_then(|fields| fields.required_fields("fetch"));
    let Ok(fetch) = fetch else {
        return Vec::new();
    };
    let odd = Odd {
        task,
        fetch,
        findings: Vec::new(),
    };
    odd.find()
}

struct Odd<'a> {
    task: &'a FetchTask,
    fetch: Fields<'a>,
    findings: Vec<Finding>,
}

impl Odd<'_> {
    fn find(mut self) -> Vec<Finding> {
        match &self.task.upstream {
            Upstream::StaticUrl(file) => {
                self.unknown_keys(STATIC_URL_KEYS, GIT_KEYS, "git");
                self.url(file);
                self.pins(file);
                self.repacking(file);
            }
            Upstream::Git(git) => {
                self.unknown_keys(GIT_KEYS, STATIC_URL_KEYS, "static-url");
                self.revision(git);
            }
        }
        self.artifact_name();
        self.attributes();
        self.symbol();
        self.findings
    }

    /// Adds a finding about a key, or about the task if the key is not there.
    fn add(&mut self, key: &str, text: String, hint: &str) {
        let place = self.fetch.map.get(key).map(|node| &node.place);
        let finding = Finding::new(place.unwrap_or(&self.task.place), text);
        self.findings.push(finding.hint(hint));
    }

    fn unknown_keys(&mut self, known: &[&str], other: &[&str], other_type: &str) {
        for (node, value) in self.fetch.map.entries() {
            // Keys that are not text do not come this far.
            let Some(key) = node.text().filter(|key| !known.contains(key)) else {
                continue;
            };
            if value.is_null() {
                // How a task gets rid of what defaults give it.
                continue;
            }
            let mut finding = self.fetch.nobody_knows(key, node, known);
            if other.contains(&key) {
                finding.hint = Some(format!("it belongs to the type `{other_type}`"));
            }
            finding.text.push_str(", it has no effect");
            self.findings.push(finding);
        }
    }

    fn url(&mut self, file: &StaticUrl) {
        let supported =
            Url::parse(&file.url).is_ok_and(|url| matches!(url.scheme(), "http" | "https" | "ftp"));
        if !supported {
            let text = "`fetch.url` is no URL that can be fetched".to_owned();
            self.add("url", text, "give an http, https or ftp URL");
        }
    }

    fn pins(&mut self, file: &StaticUrl) {
        let sha256 = &file.sha256;
        if let Err(err) = file.pinned() {
            let key = if sha256.len() == 64 && file.size < 0 {
                "size"
            } else {
                "sha256"
            };
            let text = format!("`fetch.{key}` never fits: {}", crate::error::chain(&err));
            self.add(
                key,
                text,
                "`fetch-content kind update NAME` fills in what the URL has now",
            );
        } else if sha256.bytes().any(|byte| byte.is_ascii_uppercase()) {
            let text = "`fetch.sha256` has upper-case digits".to_owned();
            self.add(
                "sha256",
                text,
                "the Python tool compares it as text, and refuses every download",
            );
        }
        if file.size == 0 {
            let text = "`fetch.size` is 0, with which the size is not checked".to_owned();
            self.add("size", text, "give the size in bytes");
        }
    }

    fn repacking(&mut self, file: &StaticUrl) {
        if file.strip_components < 0 {
            let text = "`fetch.strip-components` is negative".to_owned();
            self.add(
                "strip-components",
                text,
                "give the number of components to remove",
            );
        }
        let key = match (file.strip_components, file.add_prefix.as_str()) {
            (0, "") => return,
            (0, _) => "add-prefix",
            _ => "strip-components",
        };
        if !self.task.artifact_name.ends_with(".tar.zst") {
            let text = format!(
                "`fetch.{key}` needs an artifact that is a .tar.zst, and not {}",
                self.task.artifact_name
            );
            self.add(key, text, "give an `artifact-name` that ends in .tar.zst");
        }
    }

    fn revision(&mut self, git: &Git) {
        if git.revision.len() > 40 {
            let text = format!(
                "`fetch.revision` has more than 40 digits: `{}`",
                git.revision.escape_debug()
            );
            self.add(
                "revision",
                text,
                "whatever follows them is given to git, too",
            );
        }
    }

    fn artifact_name(&mut self) {
        let name = &self.task.artifact_name;
        let is_given = self.fetch.node("artifact-name").is_some();
        let key = if is_given { "artifact-name" } else { "url" };
        if name.is_empty() {
            let text = "the artifact has no name: the URL ends in a slash".to_owned();
            self.add(key, text, "give it one by `artifact-name`");
        } else if !is_given && name.contains(['?', '#']) {
            let text = format!(
                "the artifact is called `{}`, with what the URL asks for",
                name.escape_debug()
            );
            self.add(key, text, "give it a name by `artifact-name`");
        } else if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
            let text = format!("`{}` is no name for an artifact", name.escape_debug());
            self.add(key, text, "give the name of a file");
        }
    }

    fn attributes(&mut self) {
        let attributes = self.task.attributes.as_ref().and_then(|node| node.map());
        if let Some((key, _)) = attributes.and_then(|map| map.entry("cached_task")) {
            let text = "`attributes.cached_task` has no effect: fetches are always cached";
            self.findings.push(Finding::at(key, text));
        }
    }

    /// Treeherder's limit, which taskgraph refuses to go beyond.
    fn symbol(&mut self) {
        let name = &self.task.name;
        if self.task.config.has_treeherder
            && (name.chars().count() > 25 || name.contains(['(', ')']))
        {
            let text = "the name is no symbol for Treeherder: it may have up to 25 characters, and no parentheses";
            self.findings.push(Finding::new(&self.task.place, text));
        }
    }
}

/// Returns aliases of fetch tasks that stand for two of them.
pub(super) fn fetch_aliases(tasks: &[FetchTask]) -> Vec<Finding> {
    let named = tasks.iter().map(|task| Named {
        label: &task.label,
        kind: &task.kind,
        aliases: Vec::from_iter(task.alias.as_deref()),
        place: &task.place,
    });
    doubled(&named.collect::<Vec<_>>())
}

/// Returns aliases of toolchains that stand for two of them.
pub(super) fn toolchain_aliases(tasks: &[Toolchain]) -> Vec<Finding> {
    let named = tasks.iter().map(|task| Named {
        label: &task.label,
        kind: &task.kind,
        aliases: task.aliases.iter().map(String::as_str).collect(),
        place: &task.place,
    });
    doubled(&named.collect::<Vec<_>>())
}

/// What a task can be called.
struct Named<'a> {
    label: &'a str,
    kind: &'a str,
    aliases: Vec<&'a str>,
    place: &'a Place,
}

fn doubled(tasks: &[Named]) -> Vec<Finding> {
    let labels: HashSet<_> = tasks.iter().map(|task| task.label).collect();
    let mut seen: HashMap<String, &str> = HashMap::new();
    let mut findings = Vec::new();
    for task in tasks {
        for alias in &task.aliases {
            // What `fetches:` looks for.
            let wanted = format!("{}-{alias}", task.kind);
            let finding = |text| Finding::new(task.place, text).of_task(task.label);
            let alias = alias.escape_debug();
            if wanted != task.label && labels.contains(wanted.as_str()) {
                findings.push(finding(format!("the alias `{alias}` hides {wanted}")));
            } else if let Some(other) = seen.insert(wanted, task.label) {
                findings.push(finding(format!(
                    "the alias `{alias}` was that of {other} before"
                )));
            }
        }
    }
    findings
}
