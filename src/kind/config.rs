//! `taskcluster/config.yml`: what holds for all kinds.

use super::{
    fields::Fields,
    finding::{Finding, Found},
    yaml::Node,
};

/// The configuration of a task graph.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) trust_domain: String,
    /// What index paths of cached tasks begin with.
    pub(super) cache_prefix: String,
    /// Whether tasks of pull requests are cached.
    pub(super) cache_pull_requests: bool,
    /// How long tasks of levels below 3 are kept.
    pub(super) expires_after: String,
    /// Whether tasks are reported to Treeherder.
    pub(super) has_treeherder: bool,
    /// All of it.
    pub(super) node: Node,
}

/// The keys of `taskgraph:` in taskgraph 24.5.
const TASKGRAPH_KEYS: &[&str] = &[
    "repositories",
    "register",
    "decision-parameters",
    "cached-task-prefix",
    "cache-pull-requests",
    "index-path-regexes",
    "run",
    "disabled-actions",
];

impl Config {
    /// Checks what matters to cached tasks. The findings are odd keys: the real code refuses them, but a later version
    /// may know them.
    pub(super) fn new(node: &Node) -> Found<(Self, Vec<Finding>)> {
        let fields = Fields::of(node, "")?;
        let trust_domain = fields.required_text("trust-domain")?.to_owned();
        let taskgraph = fields.required_fields("taskgraph")?;
        taskgraph.not_null("cached-task-prefix")?;
        let prefix = taskgraph.text("cached-task-prefix")?;
        let pull_requests = taskgraph.bool("cache-pull-requests")?;
        let expires_after = fields.text("task-expires-after")?.unwrap_or("28 days");
        let config = Self {
            cache_prefix: prefix.unwrap_or(&trust_domain).to_owned(),
            cache_pull_requests: pull_requests.unwrap_or(true),
            expires_after: expires_after.to_owned(),
            has_treeherder: fields.map.get("treeherder").is_some(),
            trust_domain: trust_domain.clone(),
            node: node.clone(),
        };
        Ok((config, taskgraph.unknown(TASKGRAPH_KEYS)?))
    }
}
