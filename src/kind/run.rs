//! [`Workshop`]: fetch tasks performed here, as a worker would perform them, with a store in place of a deployment.
//!
//! A task that the store's index knows by its digest is not performed again. Otherwise its file is made in the store's
//! staging area and becomes the artifact of a task, with a chain of trust; only then the index leads there. The id of the
//! task follows from its digest: whoever is killed in between, or faster than another process, leaves what that one would.

use crate::{
    archive::Placing,
    digest::Sha256Digest,
    error::{Error, Result},
    fetch::{Context, Request, Shortcut, Staged, Wanted, fetch, only},
    fs,
    http::Source,
    kind::{Cached, FetchTask, Git, Parameters, StaticUrl, Upstream, time::ahead},
    observe::{Event, Observer},
    rel_path::RelPath,
    store::{self, Artifact, Handover, IndexEntry, Metadata, Namespace, State, Store, TaskRecord},
    stream::bridge::run_blocking,
    task::{ArtifactName, Secrets, TaskId},
    upstream::{UpstreamFile, in_folders, in_mirror, parse_url},
    vcs,
};
use chrono::{DateTime, Utc};
use serde_json::json;
use std::{ffi::OsString, path::PathBuf, sync::Arc};
use url::Url;

/// What chains of trust are called.
const CHAIN_OF_TRUST: &str = "public/chain-of-trust.json";

/// What all tasks share that are performed here.
pub struct Workshop {
    /// Where artifacts go.
    pub store: Store,
    /// How to fetch; its staging area is the store's.
    pub context: Context,
    /// What the tasks are for: decides on paths in the index.
    pub parameters: Parameters,
    /// Folders in which files are looked for by their upstream names, before any server is asked.
    pub distdirs: Vec<PathBuf>,
    /// Servers that have files by their upstream names, asked before upstream.
    pub mirrors: Vec<Url>,
    /// Where ssh keys are.
    pub secrets: Option<Secrets>,
    /// Images that files are taken from which the store does not have, before anybody else is asked.
    pub images: Option<Arc<dyn Shortcut>>,
}

/// Where the artifact of a task is.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The task that has it.
    pub task: TaskId,
    /// The artifact.
    pub artifact: Artifact,
    /// Whether it was there before.
    pub found: bool,
}

impl Workshop {
    /// Returns the artifact of a task; performs it if the store does not have it.
    ///
    /// # Errors
    /// Those of the fetch, and of the store.
    ///
    /// # Cancel safety
    /// When dropped, nothing is in the index yet, or all of it.
    pub async fn perform(&self, task: &FetchTask, observer: &dyn Observer) -> Result<Stored> {
        let name = artifact_name(&task.artifact())?;
        if let Some(found) = self.find(&task.cached, &name).await? {
            return Ok(found);
        }
        if let Some(taken) = self.take(task, &RelPath::default(), observer).await? {
            return Ok(taken);
        }
        self.make(task, observer).await
    }

    /// Performs a task with the file that an image has in a directory, if one has it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn take(
        &self,
        task: &FetchTask,
        directory: &RelPath,
        observer: &dyn Observer,
    ) -> Result<Option<Stored>> {
        let (Some(images), Upstream::StaticUrl(file)) = (&self.images, &task.upstream) else {
            return Ok(None);
        };
        // What is wrong with the task is told by whoever performs it. Perhaps nobody has to.
        let Ok(request) = file_name(task).and_then(|name| self.request(file, name)) else {
            return Ok(None);
        };
        let wanted = Wanted {
            request: &request,
            places: std::slice::from_ref(directory),
            tree: None,
            observer,
        };
        match images.take(wanted, &self.context).await {
            Some(staged) => self.keep(task, only(staged)?, observer).await.map(Some),
            None => Ok(None),
        }
    }

    /// Performs a task with what its upstream has, or folders and mirrors in its place.
    ///
    /// # Errors
    /// Those of the fetch, and of the store.
    pub async fn make(&self, task: &FetchTask, observer: &dyn Observer) -> Result<Stored> {
        let file_name = file_name(task)?;
        let staged = match &task.upstream {
            Upstream::StaticUrl(file) => {
                let request = self.request(file, file_name)?;
                only(fetch(&request, &self.context, observer).await?)?
            }
            Upstream::Git(git) => self.check_out(git, file_name, observer).await?,
        };
        self.keep(task, staged, observer).await
    }

    /// Makes what is staged the artifact of a task, which the index has then.
    async fn keep(
        &self,
        task: &FetchTask,
        staged: Staged,
        observer: &dyn Observer,
    ) -> Result<Stored> {
        for warning in staged.warnings {
            observer.on_event(&Event::Warning(warning));
        }
        let expires = ahead(task.expires_after(&self.parameters), store::now());
        let file = Handover::Move(staged.directory.join(file_name(task)?));
        let name = artifact_name(&task.artifact())?;
        let stored = self.publish(task.id_here(), &name, file, expires).await?;
        self.enter(&task.cached, &stored.task, expires).await?;
        Ok(stored)
    }

    /// Returns the artifact of the task that the index has for a digest, if there is one.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn find(&self, cached: &Cached, name: &ArtifactName) -> Result<Option<Stored>> {
        for path in cached.index_search(&self.parameters) {
            let Some(entry) = self.store.find(&namespace(&path)?).await? else {
                continue;
            };
            if let Some(artifact) = self.store.artifact(&entry.task_id, name).await? {
                return Ok(Some(Stored {
                    task: entry.task_id,
                    artifact,
                    found: true,
                }));
            }
        }
        Ok(None)
    }

    /// Stores a file as the artifact of a task.
    async fn publish(
        &self,
        task: TaskId,
        name: &ArtifactName,
        file: Handover,
        expires: Option<DateTime<Utc>>,
    ) -> Result<Stored> {
        let metadata = |content_type: &str| Metadata {
            content_type: content_type.into(),
            expires,
        };
        let record = TaskRecord {
            created: store::now(),
            expires,
            state: State::Completed,
            task: None,
        };
        self.store.put_task(&task, &record).await?;
        let artifact = self
            .store
            .publish(&task, name, file, metadata("application/octet-stream"))
            .await?;
        let chain = json!({
            "chainOfTrustVersion": 1,
            "taskId": task,
            "runId": 0,
            "workerGroup": "local",
            "workerId": "local",
            "environment": {},
            "task": {},
            "artifacts": {name.as_str(): {"sha256": artifact.sha256.to_string()}},
        });
        let chain = self.file_with(chain.to_string()).await?;
        self.store
            .publish(
                &task,
                &artifact_name(CHAIN_OF_TRUST)?,
                Handover::Move(chain),
                metadata("application/json"),
            )
            .await?;
        Ok(Stored {
            task,
            artifact,
            found: false,
        })
    }

    /// Makes the index lead to a task by all of its routes.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn enter(
        &self,
        cached: &Cached,
        task: &TaskId,
        expires: Option<DateTime<Utc>>,
    ) -> Result<()> {
        let entry = IndexEntry {
            task_id: task.clone(),
            rank: 0.0,
            data: serde_json::Map::new(),
            expires: expires.unwrap_or(DateTime::<Utc>::MAX_UTC),
        };
        for route in cached.routes(&self.parameters) {
            let path = route.strip_prefix("index.").unwrap_or(&route);
            self.store.insert(&namespace(path)?, &entry).await?;
        }
        Ok(())
    }

    async fn file_with(&self, text: String) -> Result<PathBuf> {
        let staging = Arc::clone(&self.context.staging);
        run_blocking(move || {
            let path = staging.fresh()?.join("file");
            fs::write(&path, &text)?;
            Ok(path)
        })
        .await
    }

    /// Returns what is to be fetched for a file of a task, and from where.
    fn request(&self, file: &StaticUrl, file_name: OsString) -> Result<Request> {
        let url = parse_url(&file.url)?;
        let folders = in_folders(&self.distdirs, &url)
            .into_iter()
            .map(Source::File);
        let mirrors = self
            .mirrors
            .iter()
            .filter_map(|mirror| in_mirror(mirror, &url));
        let mirrors = mirrors.map(|url| Source::Url(Box::new(url.into())));
        request(file, file_name, folders.chain(mirrors).collect())
    }

    async fn check_out(
        &self,
        git: &Git,
        file_name: OsString,
        observer: &dyn Observer,
    ) -> Result<Staged> {
        let ssh_key = match (&git.ssh_key, &self.secrets) {
            (Some(name), Some(secrets)) => Some(secrets.secret(name)),
            (Some(name), None) => {
                return Err(Error::Usage {
                    what: format!(
                        "the ssh key is the secret `{name}`, and there is no deployment to ask for it"
                    ),
                    hint: Some("set TASKCLUSTER_ROOT_URL and credentials".into()),
                });
            }
            (None, _) => None,
        };
        let request = vcs::Request {
            repo: git.repo.clone(),
            revision: git.revision.clone(),
            path_prefix: Some(git.path_prefix.clone()),
            include_dot_git: git.include_dot_git,
            ssh_key,
            known_hosts: None,
            file_name,
        };
        vcs::fetch(&request, &self.context, observer).await
    }
}

impl FetchTask {
    /// Returns the digest of the artifact, if that is known beforehand: where it is the file of its upstream as it is. Not
    /// if somebody must have signed that.
    #[must_use]
    pub fn pinned(&self) -> Option<Sha256Digest> {
        let Upstream::StaticUrl(file) = &self.upstream else {
            return None;
        };
        let request = request(file, file_name(self).ok()?, Vec::new()).ok()?;
        let is_kept = matches!(request.placings[..], [Placing::Keep]);
        let (sha256, _) = file.pinned().ok()?;
        (is_kept && request.signed.is_none()).then_some(sha256)
    }
}

/// Returns what is to be fetched for a file of a task, and where it is looked for before upstream.
fn request(file: &StaticUrl, file_name: OsString, before: Vec<Source>) -> Result<Request> {
    let (sha256, size) = file.pinned()?;
    UpstreamFile {
        url: parse_url(&file.url)?,
        headers: file.request_headers()?,
        before,
        after: Vec::new(),
        sha256,
        size,
        signed: file.signed()?,
        strip_components: usize::try_from(file.strip_components)
            .map_err(|_range| Error::usage("strip-components is no number of components"))?,
        add_prefix: file.add_prefix.clone(),
        force_archive: false,
        file_name,
    }
    .into_request()
}

/// Returns the name of the file that is the artifact of a task.
fn file_name(task: &FetchTask) -> Result<OsString> {
    if task.artifact_name.contains('/') {
        return Err(Error::usage(format!(
            "artifact-name `{}` is not the name of a file",
            task.artifact_name.escape_debug()
        )));
    }
    Ok(OsString::from(&task.artifact_name))
}

/// Parses the name of an artifact that a kind gives.
///
/// # Errors
/// [`Error::Usage`].
pub fn artifact_name(name: &str) -> Result<ArtifactName> {
    name.parse().map_err(|err| Error::usage(format!("{err}")))
}

fn namespace(path: &str) -> Result<Namespace> {
    path.parse().map_err(|err| Error::usage(format!("{err}")))
}
