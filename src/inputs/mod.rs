//! The inputs of a task, at a desk: the directory that a task's `fetches:` would fill, from wherever they are.
//!
//! ```text
//! Wanted ──▶ store ──▶ images ──▶ index of a deployment ──▶ perform the fetch task  (the first that has it)
//!                      │  └ files ──┬──────┘─────────────────────────┘
//!                      │          store
//!                      │            └─▶ trees: what archives unpack to, once ──▶ links into the destination
//!                      └ trees ──────────────────────────────────────────────▶ the destination
//! ```
//!
//! Files go through the store, so that a second time nothing is asked of anybody. What an image has unpacked does not: the
//! store keeps only what was made from what was verified here.

mod lock;
mod trees;

pub use lock::{Lock, Locked};

use crate::{
    archive::Placing,
    batch::{Item, Placed, publish},
    digest::Sha256Digest,
    error::{self, Error, Result},
    fetch::{Context, Request, Staged, Wanted as Fetch, fetch, only},
    fs::Staging,
    kind::{Cached, FetchTask, Stored, Workshop},
    observe::{Event, Observer, Warnings},
    oci::content,
    rel_path::RelPath,
    safe_url::SafeUrl,
    store::{Handover, IndexEntry, Metadata, State, TaskRecord, now},
    stream::bridge::run_blocking,
    task::{ArtifactName, Deployment, Entry, TaskId, Tasks},
    verify::{Expectation, Expected},
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
    /// What it must be.
    pub expected: Expected,
    /// What a lock has for it, as far as that is still the same.
    pub locked: Option<Locked>,
    /// The task that has it, if that is known.
    pub task: Option<TaskId>,
    /// How it is found in an index.
    pub cached: Option<Cached>,
    /// How it can be made.
    pub made_by: Option<FetchTask>,
    /// Why it is not known how it is found.
    pub problem: Option<String>,
}

impl Wanted {
    /// Returns its digest, if that is known without asking anybody.
    #[must_use]
    pub fn digest(&self) -> Option<Sha256Digest> {
        let locked = self.locked.as_ref().map(|locked| locked.sha256);
        let pinned = || self.made_by.as_ref()?.pinned();
        self.expected.sha256.or(locked).or_else(pinned)
    }
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
    /// Where everything is made ready: inside of the destination.
    pub staging: Arc<Staging>,
    /// Whether what was found becomes a lock. Nothing unpacked comes from images then, whose makers nobody may have verified.
    pub for_lock: bool,
}

/// Something wanted, what was found, and who watches it.
pub struct Found<'a> {
    /// What is wanted.
    pub wanted: &'a Wanted,
    /// What was found.
    pub content: Content,
    /// Who watches it.
    pub observer: Arc<dyn Observer>,
}

/// What was found.
pub enum Content {
    /// The store has it now.
    Stored(Stored),
    /// An image has what it unpacks to.
    Unpacked {
        /// That, staged.
        staged: Staged,
        /// The digest of the artifact.
        sha256: Sha256Digest,
    },
}

impl Desk {
    /// Gets everything into the store that is not there yet, or what it unpacks to out of an image.
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
                let content = self.get(wanted, &observer).await;
                let content = content.map_err(|err| named(wanted, err))?;
                Ok(Found {
                    wanted,
                    content,
                    observer,
                })
            }
        });
        found.buffered(self.concurrency).try_collect().await
    }

    async fn get(&self, wanted: &Wanted, observer: &Arc<dyn Observer>) -> Result<Content> {
        if let Some(stored) = self.in_store(wanted).await? {
            return Ok(Content::Stored(stored));
        }
        if let Some(content) = self.in_images(wanted, observer).await? {
            return Ok(content);
        }
        self.elsewhere(wanted, observer).await.map(Content::Stored)
    }

    async fn in_store(&self, wanted: &Wanted) -> Result<Option<Stored>> {
        let Wanted {
            task,
            cached,
            artifact: name,
            ..
        } = wanted;
        let store = &self.workshop.store;
        let Some(task) = task else {
            return match cached {
                Some(cached) => self.workshop.find(cached, name).await,
                None => Ok(None),
            };
        };
        let Some(artifact) = store.artifact(task, name).await? else {
            return Ok(None);
        };
        let place = format!("{name} of task {task} in {}", store.shown());
        let place = SafeUrl::of_file(Path::new(&place));
        wanted.expected.and(&artifact.expected(), &place)?;
        Ok(Some(Stored {
            task: task.clone(),
            artifact,
            found: true,
        }))
    }

    /// Takes a file out of an image into the store, or what it unpacks to into the staging area.
    async fn in_images(
        &self,
        wanted: &Wanted,
        observer: &Arc<dyn Observer>,
    ) -> Result<Option<Content>> {
        let workshop = &self.workshop;
        let Some(images) = &workshop.images else {
            return Ok(None);
        };
        // Only the deployment can vouch for it.
        if wanted.verify_hash && wanted.task.is_some() && self.remote.is_some() {
            return Ok(None);
        }
        let made_by = wanted.made_by.as_ref().filter(|_| wanted.task.is_none());
        if let Some(task) = made_by
            && let Some(stored) = workshop.take(task, &wanted.dest, &**observer).await?
        {
            return Ok(Some(Content::Stored(stored)));
        }
        let Some(sha256) = wanted.digest() else {
            return Ok(None);
        };
        let take = |placing, staging: &Arc<Staging>| {
            let context = Context {
                staging: Arc::clone(staging),
                ..workshop.context.clone()
            };
            let expected = Expected {
                sha256: Some(sha256),
                ..wanted.expected
            };
            async move {
                let fetch = Fetch {
                    request: &request(wanted, expected.known(), placing),
                    places: std::slice::from_ref(&wanted.dest),
                    tree: wanted.locked.as_ref().and_then(|locked| locked.tree),
                    observer: &**observer,
                };
                images.take(fetch, &context).await.map(only).transpose()
            }
        };
        if let Some(task) = &wanted.task
            && let Some(file) = take(Placing::Keep, &workshop.context.staging).await?
        {
            return self
                .keep(wanted, task, &file)
                .await
                .map(Content::Stored)
                .map(Some);
        }
        if self.for_lock || !wanted.extract {
            return Ok(None);
        }
        let staged = take(Placing::Extract, &self.staging).await?;
        Ok(staged.map(|staged| Content::Unpacked { staged, sha256 }))
    }

    async fn elsewhere(&self, wanted: &Wanted, observer: &Arc<dyn Observer>) -> Result<Stored> {
        match (&wanted.task, &self.remote) {
            (Some(task), Some(remote)) => {
                return self.download(remote, wanted, task, observer).await;
            }
            (Some(_), None) => return Err(no_source(wanted)),
            (None, _) => {}
        }
        if let (Some(cached), Some(remote)) = (&wanted.cached, &self.remote) {
            match self.look_up(remote, cached, wanted, observer).await {
                Ok(Some(stored)) => return Ok(stored),
                Ok(None) => {}
                Err(err) if err.is_gone() && wanted.made_by.is_some() => {
                    observer.on_event(&Event::Warning(error::chain(&err)));
                }
                Err(err) => return Err(err),
            }
        }
        match &wanted.made_by {
            Some(task) => self.workshop.make(task, &**observer).await,
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
            sha256: wanted.expected.sha256,
            size: wanted.expected.size,
        };
        let expected = remote.tasks.expectation(&entry, Arc::clone(observer));
        let source = remote.tasks.source(task, &wanted.artifact).await?;
        let request = Request {
            name: format!("{} of task {task}", wanted.artifact),
            sources: vec![source],
            ..request(wanted, expected, Placing::Keep)
        };
        let staged = only(fetch(&request, &self.workshop.context, &**observer).await?)?;
        self.keep(wanted, task, &staged).await
    }

    /// Makes a file the artifact of a task in the store.
    async fn keep(&self, wanted: &Wanted, task: &TaskId, staged: &Staged) -> Result<Stored> {
        let store = &self.workshop.store;
        let metadata = Metadata {
            content_type: "application/octet-stream".into(),
            expires: None,
        };
        let file = Handover::Move(staged.directory.join(wanted.artifact.file_name()));
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

    /// Puts everything into the destination, in the order of the list. Files are linked to those of the store's trees where
    /// that can be and is allowed. For a lock, the hash of each tree is returned.
    ///
    /// # Errors
    /// Those of reading the store and writing the directory. Nothing is published before everything is there.
    pub async fn lay_out(
        &self,
        found: &[Found<'_>],
        may_link: bool,
    ) -> Result<Vec<Option<Sha256Digest>>> {
        // A tree that is kept has only been looked at since it was unpacked; a lock vouches for content.
        let trees = self.workshop.store.trees().filter(|_| !self.for_lock);
        let trees = trees.map(Trees::new);
        let placed = stream::iter(found.iter().enumerate()).map(|(position, found)| {
            let trees = trees.as_ref();
            async move {
                let staged = self.stage(found, trees, may_link).await;
                let staged = staged.map_err(|err| named(found.wanted, err))?;
                let hash = self.hash(found.wanted, &staged).await?;
                let placed = Placed {
                    position,
                    name: found.wanted.label.clone(),
                    dest: found.wanted.dest.clone(),
                    observer: Arc::clone(&found.observer),
                    staged,
                };
                Ok::<_, Error>((placed, hash))
            }
        });
        let placed: Vec<_> = placed.buffered(self.concurrency).try_collect().await?;
        let (placed, hashes): (Vec<_>, _) = placed.into_iter().unzip();
        let staging = Arc::clone(&self.staging);
        run_blocking(move || publish(&placed, &staging)).await?;
        Ok(hashes)
    }

    /// Returns the hash of what something unpacked to, for a lock. Where the umask takes more than it usually does, there
    /// is none that would be right elsewhere.
    async fn hash(&self, wanted: &Wanted, staged: &Staged) -> Result<Option<Sha256Digest>> {
        if !self.for_lock || !wanted.extract || !content::is_comparable() {
            return Ok(None);
        }
        let (directory, staging) = (staged.directory.clone(), Arc::clone(&self.staging));
        run_blocking(move || {
            // Lives as long as anybody reads in it.
            let _staging = staging;
            content::of_tree(&directory, &|_| Ok(())).map(Some)
        })
        .await
    }

    /// Puts an artifact of the store, or what it unpacks to, into a directory of its own.
    async fn stage(
        &self,
        found: &Found<'_>,
        trees: Option<&Trees>,
        may_link: bool,
    ) -> Result<Staged> {
        let Wanted {
            artifact, extract, ..
        } = found.wanted;
        let stored = match &found.content {
            Content::Stored(stored) => stored,
            Content::Unpacked { staged, .. } => return Ok(staged.clone()),
        };
        let make = |staging| self.unpack(stored, staging, Placing::of(found.wanted.extract));
        let of = Of {
            sha256: &stored.artifact.sha256,
            file_name: artifact.file_name(),
            extract: *extract,
            may_link,
        };
        match trees {
            Some(trees) => trees.place(of, &self.staging, make).await,
            None => make(Arc::clone(&self.staging)).await,
        }
    }

    /// Returns everything in the store as something to be fetched from there.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn items(&self, found: &[Found<'_>]) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        for (position, found) in found.iter().enumerate() {
            let Content::Stored(stored) = &found.content else {
                continue;
            };
            items.push(Item {
                request: self.read(stored, Placing::of(found.wanted.extract)).await?,
                locate: None,
                places: vec![(position, found.wanted.dest.clone())],
                size: Some(stored.artifact.size),
                tree: None,
                // Its bytes were counted when they came into the store, if that was now.
                observer: Arc::new(Warnings(Arc::clone(&found.observer))),
                shortcut: None,
            });
        }
        Ok(items)
    }

    /// Returns how to read an artifact of the store, which is compared with its record.
    async fn read(&self, stored: &Stored, placing: Placing) -> Result<Request> {
        let Stored { task, artifact, .. } = stored;
        Ok(Request {
            name: format!("{} of task {task}", artifact.name),
            sources: vec![self.workshop.store.source(task, &artifact.name).await?],
            expected: artifact.expected().known(),
            signed: None,
            placings: vec![placing],
            file_name: artifact.name.file_name().into(),
        })
    }

    /// Reads an artifact of the store.
    async fn unpack(
        &self,
        stored: &Stored,
        staging: Arc<Staging>,
        placing: Placing,
    ) -> Result<Staged> {
        let request = self.read(stored, placing).await?;
        let context = Context {
            staging,
            ..self.workshop.context.clone()
        };
        // Its bytes were counted when they came into the store, if that was now.
        only(fetch(&request, &context, &()).await?)
    }
}

/// Returns what is to be fetched for something, with no source yet.
fn request(wanted: &Wanted, expected: Expectation, placing: Placing) -> Request {
    Request {
        name: wanted.artifact.to_string(),
        sources: Vec::new(),
        expected,
        signed: None,
        placings: vec![placing],
        file_name: wanted.artifact.file_name().into(),
    }
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
