//! [`FetchTask`]: a task that gets something from elsewhere and offers it as its artifact.

use super::{
    config::Config,
    fields::Fields,
    finding::{Finding, Found},
    index::{Cached, Level, Parameters},
    nearest::nearest,
    source::RawTask,
    upstream::{KEY_VARIABLE, UPLOAD_DIR, Upstream},
    yaml::{Node, Place},
};
use crate::task::TaskId;
use std::{collections::BTreeMap, path::Path, sync::Arc};

/// The type and version of fetch tasks' digests.
const CACHE_TYPE: &str = "content.v1";

/// The keys of a fetch task.
const KEYS: &[&str] = &[
    "name",
    "description",
    "fetch",
    "task-from",
    "expires-after",
    "docker-image",
    "fetch-alias",
    "artifact-prefix",
    "attributes",
];

/// A task of the fetch kind.
#[derive(Clone, Debug)]
pub struct FetchTask {
    /// Its name.
    pub name: String,
    /// `fetch-` and the name.
    pub label: String,
    /// The name of the kind.
    pub kind: String,
    /// What it is good for.
    pub description: String,
    /// Another name of it.
    pub alias: Option<String>,
    /// What is fetched.
    pub upstream: Upstream,
    /// The name of the file that the artifact is.
    pub artifact_name: String,
    /// What is in front of it in the name of the artifact.
    pub artifact_prefix: String,
    /// How it is found in the index.
    pub cached: Cached,
    /// Where it is defined.
    pub place: Place,
    pub(super) docker_image: Option<Node>,
    pub(super) attributes: Option<Node>,
    pub(super) expires_after: Option<String>,
    pub(super) config: Arc<Config>,
    pub(super) raw: RawTask,
}

impl FetchTask {
    /// Checks what a file says of a task.
    pub(super) fn new(raw: &RawTask, config: &Arc<Config>, root: &Path) -> Found<Self> {
        let fields = Fields::of(&raw.node, "")?;
        refuse_unknown(&fields)?;
        let description = fields.required_text("description")?.to_owned();
        let fetch = fields.required_fields("fetch")?;
        let upstream = Upstream::new(&fetch, &raw.label, root)?;
        let given = fetch.text("artifact-name")?.filter(|name| !name.is_empty());
        let artifact_name = given.map_or_else(|| upstream.default_artifact_name(), str::to_owned);
        fields.not_null("artifact-prefix")?;
        let artifact_prefix = fields
            .text("artifact-prefix")?
            .unwrap_or("public")
            .to_owned();
        fields.not_null("attributes")?;
        if let Some(attributes) = fields.fields("attributes")? {
            attributes.keys()?;
        }
        let cache_name = raw.label.replacen(&format!("{}-", raw.kind), "", 1);
        let data = upstream.digest_data(&artifact_name);
        let alias = fields
            .text("fetch-alias")?
            .filter(|alias| !alias.is_empty());
        Ok(Self {
            name: raw.name.clone(),
            label: raw.label.clone(),
            kind: raw.kind.clone(),
            description,
            alias: alias.map(str::to_owned),
            upstream,
            artifact_name,
            artifact_prefix,
            cached: Cached::new(config, CACHE_TYPE, cache_name, &data),
            place: raw.place.clone(),
            docker_image: fields.not_null("docker-image")?.cloned(),
            attributes: fields.node("attributes").cloned(),
            expires_after: fields.text("expires-after")?.map(str::to_owned),
            config: Arc::clone(config),
            raw: raw.clone(),
        })
    }

    /// Returns the full name of the artifact.
    #[must_use]
    pub fn artifact(&self) -> String {
        join(&self.artifact_prefix, &self.artifact_name)
    }

    /// Returns the id of the task where it is performed by this program: the same everywhere for the same definition.
    #[must_use]
    pub fn id_here(&self) -> TaskId {
        TaskId::of(&format!("fetch-content {}", self.cached.in_digests()))
    }

    /// Returns the command line that the task runs.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        self.upstream.command(&self.artifact_name)
    }

    /// Returns the variables that the command needs.
    #[must_use]
    pub fn env(&self) -> BTreeMap<&'static str, &str> {
        let mut env = BTreeMap::from([("UPLOAD_DIR", UPLOAD_DIR)]);
        if let Upstream::StaticUrl(file) = &self.upstream
            && let Some(signature) = &file.signature
        {
            env.insert(KEY_VARIABLE, &signature.keys);
        }
        env
    }

    /// Returns the digest of what decides on the artifact, as lower-case hex.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.cached.digest
    }

    /// Returns the index paths at which a finished task is looked for, in this order.
    #[must_use]
    pub fn index_search(&self, parameters: &Parameters) -> Vec<String> {
        self.cached.index_search(parameters)
    }

    /// Returns the routes by which a new task is put into the index.
    #[must_use]
    pub fn routes(&self, parameters: &Parameters) -> Vec<String> {
        self.cached.routes(parameters)
    }

    /// Returns how long task and artifact are kept, such as `28 days`.
    #[must_use]
    pub fn expires_after(&self, parameters: &Parameters) -> &str {
        match &self.expires_after {
            Some(given) => given,
            None if parameters.level == Level::HIGHEST => "1000 years",
            None => &self.config.expires_after,
        }
    }

    /// Returns the scopes that the task needs.
    #[must_use]
    pub fn scopes(&self) -> Vec<String> {
        match &self.upstream {
            Upstream::Git(git) => {
                let scope = git.ssh_key.iter().map(|key| format!("secrets:get:{key}"));
                scope.collect()
            }
            Upstream::StaticUrl(_) => Vec::new(),
        }
    }
}

fn refuse_unknown(fields: &Fields) -> Found<()> {
    match fields.unknown(KEYS)?.into_iter().next() {
        None => Ok(()),
        Some(unknown) => Err(unknown),
    }
}

/// Joins paths as Python does: what is absolute stays alone.
fn join(prefix: &str, name: &str) -> String {
    if name.starts_with('/') || prefix.is_empty() {
        name.to_owned()
    } else if prefix.ends_with('/') {
        format!("{prefix}{name}")
    } else {
        format!("{prefix}/{name}")
    }
}

/// Says that there is no such task, and which one may be meant.
pub(super) fn no_such_task(name: &str, known: &[&str]) -> Finding {
    let finding = Finding::nowhere(format!("there is no task `{}`", name.escape_debug()));
    match nearest(name, known) {
        Some(meant) => finding.hint(format!("did you mean `{meant}`?")),
        None => finding.hint("`fetch-content kind list` tells which there are"),
    }
}
