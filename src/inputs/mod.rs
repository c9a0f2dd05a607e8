//! The inputs of a task, at a desk: the directory that a task's `fetches:` would fill, from wherever they are.
//!
//! ```text
//! Wanted ──▶ store ──▶ index of a deployment ──▶ perform the fetch task  (the first that has it)
//!                           └────────▶ store ◀────────┘
//!                                        │
//!                                      trees: what archives unpack to, once ──▶ links into the destination
//! ```
//!
//! Everything goes through the store, so that a second time nothing is asked of anybody.

mod lock;
mod trees;

pub use lock::{Lock, Locked};

use crate::{
    archive::Placing,
    batch::{Placed, publish},
    error::{self, Error, Result},
    fetch::{Context, Request, Staged, fetch},
    fs::Staging,
    http::Source,
    kind::{Cached, FetchTask, Stored, Workshop},
    observe::{Event, Observer},
    rel_path::RelPath,
    store::{Handover, IndexEntry, Metadata, State, TaskRecord, now},
    stream::bridge::run_blocking,
    task::{ArtifactName, Deployment, Entry, TaskId, Tasks},
};
use futures::{StreamExt, TryStreamExt, stream};
use std::{path::Path, sync::Arc};
use trees::{Of, Trees};

/// An artifact that a task wants.
pub struct Wanted {
    /// What people call it: the label of the task that makes it, or its id.
    pub label: String,
    /// Its name.
    pub artifact: ArtifactName,
    /// Where it goes, below the destination.
    pub dest: RelPath,
    /// Whether it is extracted if it is an archive.
    pub extract: bool,
    /// Whether the task's chain of trust must vouch for it, if a deployment has it.
    pub verify_hash: bool,
    /// The task that has it, if that is known.
    pub task: Option<TaskId>,
    /// How it is found in an index.
    pub cached: Option<Cached>,
    /// How it can be made.
    pub made_by: Option<FetchTask>,
    /// Why it is not known how it is found.
    pub problem: Option<String>,
}

/// A deployment whose index and artifacts can be used.
pub struct Remote {
    /// Its index.
    pub deployment: Deployment,
    /// Its artifacts.
    pub tasks: Arc<Tasks>,
}

/// Where inputs come from.
pub struct Desk {
    /// The store, and what it takes to perform fetch tasks.
    pub workshop: Workshop,
    /// Asked for what the store does not have.
    pub remote: Option<Remote>,
    /// Artifacts at once.
    pub concurrency: usize,
}

/// Something wanted, where it is, and who watches it.
pub struct Found<'a> {
    /// What is wanted.
    pub wanted: &'a Wanted,
    /// Where the store has it.
    pub stored: Stored,
    /// Who watches it.
    pub observer: Arc<dyn Observer>,
}

impl Desk {
    /// Gets everything into the store that is not there yet.
    ///
    /// # Errors
    /// [`Error::Fetch`] for the first that cannot be had.
    pub async fn gather<'a>(
        &self,
        wanted: &'a [Wanted],
        watch: impl Fn(&Wanted) -> Arc<dyn Observer>,
    ) -> Result<Vec<Found<'a>>> {
        let found = stream::iter(wanted).map(|wanted| {
            let observer = watch(wanted);
            async move {
                let stored = self.get(wanted, &observer).await;
                let stored = stored.map_err(|err| named(wanted, err))?;
                Ok(Found {
                    wanted,
                    stored,
                    observer,
                })
            }
        });
        found.buffered(self.concurrency).try_collect().await
    }

    async fn get(&self, wanted: &Wanted, observer: &Arc<dyn Observer>) -> Result<Stored> {
        if let Some(task) = &wanted.task {
            let stored = self.workshop.store.artifact(task, &wanted.artifact).await?;
            return match (stored, &self.remote) {
                (Some(artifact), _) => Ok(Stored {
                    task: task.clone(),
                    artifact,
                    found: true,
                }),
                (None, Some(remote)) => self.download(remote, wanted, task, observer).await,
                (None, None) => Err(no_source(wanted)),
            };
        }
        if let Some(cached) = &wanted.cached {
            if let Some(stored) = self.workshop.find(cached, &wanted.artifact).await? {
                return Ok(stored);
            }
            if let Some(remote) = &self.remote {
                match self.look_up(remote, cached, wanted, observer).await {
                    Ok(Some(stored)) => return Ok(stored),
                    Ok(None) => {}
                    Err(err) if err.is_gone() && wanted.made_by.is_some() => {
                        observer.on_event(&Event::Warning(error::chain(&err)));
                    }
                    Err(err) => return Err(err),
                }
            }
        }
        match &wanted.made_by {
            Some(task) => self.workshop.perform(task, &**observer).await,
            None => Err(no_source(wanted)),
        }
    }

    /// Gets an artifact by the index of a deployment, and remembers that way in the store's index. What a path leads to
    /// may be gone, since an index can lead to tasks for longer than what they made is kept: then the next path counts,
    /// and this fails if that was the last one.
    async fn look_up(
        &self,
        remote: &Remote,
        cached: &Cached,
        wanted: &Wanted,
        observer: &Arc<dyn Observer>,
    ) -> Result<Option<Stored>> {
        let mut gone = None;
        for path in cached.index_search(&self.workshop.parameters) {
            let Some(indexed) = remote.deployment.find_task(&path).await? else {
                continue;
            };
            let task = &indexed.task_id;
            let stored = match self.download(remote, wanted, task, observer).await {
                Err(err) if err.is_gone() => {
                    gone = Some(err);
                    continue;
                }
                ended => ended?,
            };
            let namespace = path.parse().map_err(|err| Error::usage(format!("{err}")))?;
            let entry = IndexEntry {
                task_id: indexed.task_id,
                rank: 0.0,
                data: serde_json::Map::new(),
                expires: indexed.expires,
            };
            self.workshop.store.insert(&namespace, &entry).await?;
            return Ok(Some(stored));
        }
        gone.map_or(Ok(None), Err)
    }

    /// Brings an artifact of a deployment into the store.
    async fn download(
        &self,
        remote: &Remote,
        wanted: &Wanted,
        task: &TaskId,
        observer: &Arc<dyn Observer>,
    ) -> Result<Stored> {
        let entry = Entry {
            task: task.clone(),
            artifact: wanted.artifact.clone(),
            extract: false,
            dest: RelPath::default(),
            verify_hash: wanted.verify_hash,
            sha256: None,
            size: None,
        };
        let name = wanted.artifact.file_name();
        let request = Request {
            name: format!("{} of task {task}", wanted.artifact),
            sources: vec![remote.tasks.source(task, &wanted.artifact).await?],
            expected: remote.tasks.expectation(&entry, Arc::clone(observer)),
            signed: None,
            placings: vec![Placing::Keep],
            file_name: name.into(),
        };
        let staged = first(fetch(&request, &self.workshop.context, &**observer).await?)?;
        let store = &self.workshop.store;
        let metadata = Metadata {
            content_type: "application/octet-stream".into(),
            expires: None,
        };
        let file = Handover::Move(staged.directory.join(name));
        let artifact = store
            .publish(task, &wanted.artifact, file, metadata)
            .await?;
        if store.task(task).await?.is_none() {
            let record = TaskRecord {
                created: now(),
                expires: None,
                state: State::Completed,
                task: None,
            };
            store.put_task(task, &record).await?;
        }
        Ok(Stored {
            task: task.clone(),
            artifact,
            found: false,
        })
    }

    /// Puts everything into a directory, in the order of the list. Files are linked to those of the store's trees where
    /// that can be and is allowed.
    ///
    /// # Errors
    /// Those of reading the store and writing the directory. Nothing is published before everything is there.
    pub async fn lay_out(&self, found: &[Found<'_>], dest: &Path, may_link: bool) -> Result<()> {
        let staging = Arc::new(Staging::inside(dest)?);
        let trees = self.workshop.store.trees().map(Trees::new);
        let placed = stream::iter(found.iter().enumerate()).map(|(position, found)| {
            let (staging, trees) = (&staging, trees.as_ref());
            async move {
                let staged = self.stage(found, staging, trees, may_link).await;
                let staged = staged.map_err(|err| named(found.wanted, err))?;
                Ok::<_, Error>(Placed {
                    position,
                    name: found.wanted.label.clone(),
                    dest: found.wanted.dest.clone(),
                    observer: Arc::clone(&found.observer),
                    staged,
                })
            }
        });
        let placed: Vec<_> = placed.buffered(self.concurrency).try_collect().await?;
        run_blocking(move || publish(&placed, &staging)).await
    }

    /// Puts an artifact of the store, or what it unpacks to, into a directory of its own.
    async fn stage(
        &self,
        found: &Found<'_>,
        staging: &Arc<Staging>,
        trees: Option<&Trees>,
        may_link: bool,
    ) -> Result<Staged> {
        let Wanted {
            artifact, extract, ..
        } = found.wanted;
        let placing = if *extract {
            Placing::Extract
        } else {
            Placing::Keep
        };
        let make = |staging| self.unpack(found, staging, placing);
        let of = Of {
            sha256: &found.stored.artifact.sha256,
            file_name: artifact.file_name(),
            extract: *extract,
            may_link,
        };
        match trees {
            Some(trees) => trees.place(of, staging, make).await,
            None => make(Arc::clone(staging)).await,
        }
    }

    /// Reads an artifact of the store, and compares it with its record.
    async fn unpack(
        &self,
        found: &Found<'_>,
        staging: Arc<Staging>,
        placing: Placing,
    ) -> Result<Staged> {
        let Stored { task, artifact, .. } = &found.stored;
        let source: Source = self.workshop.store.source(task, &artifact.name).await?;
        let request = Request {
            name: format!("{} of task {task}", artifact.name),
            sources: vec![source],
            expected: artifact.expected().known(),
            signed: None,
            placings: vec![placing],
            file_name: artifact.name.file_name().into(),
        };
        let context = Context {
            staging,
            ..self.workshop.context.clone()
        };
        // Its bytes were counted when they came into the store, if that was now.
        first(fetch(&request, &context, &()).await?)
    }
}

/// There is one for each placing, and one placing.
fn first(staged: Vec<Staged>) -> Result<Staged> {
    staged.into_iter().next().ok_or(Error::Cancelled)
}

fn named(wanted: &Wanted, source: Error) -> Error {
    Error::Fetch {
        name: format!("{} of {}", wanted.artifact, wanted.label),
        source: Box::new(source),
    }
}

fn no_source(wanted: &Wanted) -> Error {
    let Wanted { label, problem, .. } = wanted;
    let why = problem.as_ref().map(|problem| format!(": {problem}"));
    Error::Usage {
        what: format!(
            "{label} is not in the store{}",
            why.unwrap_or_else(|| ", and nothing here can make it".into())
        ),
        hint: Some(format!(
            "set TASKCLUSTER_ROOT_URL to a deployment that has built it, or name a task that has by --task {label}=TASK_ID"
        )),
    }
}
