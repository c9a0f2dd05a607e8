//! The store: artifacts by content, the tasks that they belong to, and an index of tasks; in a folder of this machine or
//! in a bucket, where several machines share it.
//!
//! ```text
//! sha256/<2 digits>/<64 digits>        content, written once and never changed
//! task/<task id>/task.json             a task: when it was made, its definition if it has one, when it expires
//! task/<task id>/info/<digits>.json    an artifact: its name, digest, size; digits are the SHA-256 of its name
//! task/<task id>/artifacts/<name>      in folders only: the content once more, as a hard link
//! index/<label>/…/<label>/task.json    what a namespace of the index leads to
//! ```
//!
//! What is written is written whole, content before what refers to it: whoever is killed in between leaves content that
//! nobody refers to, which [`Store::gc`] removes. An artifact is there when its record is, and that is written only if
//! there is none yet, so that of two writers one wins as a whole. In a folder, those who write hold a lock together and
//! `gc` holds it alone; in a bucket, `gc` spares what is young.

mod content;
mod gc;
mod index;
mod location;
mod namespace;
mod publish;
mod record;
mod verify;

pub use content::Chunks;
pub use gc::Swept;
pub use location::Location;
pub use namespace::{Namespace, ParseNamespaceError};
pub use publish::{Handover, Metadata};
pub use record::{Artifact, IndexEntry, Indexed, State, TaskRecord, timestamp};
pub use verify::Damage;

use crate::{
    digest::Sha256Digest,
    error::{Error, Result},
    fs::{self, Lock},
    http::{Client, RetryPolicy},
    stream::bridge::run_blocking,
    task::{ArtifactName, TaskId},
};
use chrono::{DateTime, SubsecRound, Utc};
use content::Hashes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{ObjectStore, ObjectStoreExt, UpdateVersion, path::Path as Key, signer::Signer};
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Requests at a time to one store.
const CONCURRENCY: usize = 16;

/// The name of the records of tasks and of index entries. No label of a namespace has a dot.
const TASK: &str = "task.json";

/// Whether to make a store that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfMissing {
    /// Make it.
    Create,
    /// Fail.
    Refuse,
}

/// A store. Any number of processes may use the same one at the same time.
#[derive(Debug)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    signer: Option<Arc<dyn Signer>>,
    /// What all keys begin with.
    prefix: Key,
    /// Where it is, if it is on this machine.
    folder: Option<PathBuf>,
    shown: String,
    hashes: Hashes,
}

/// The time now, as exact as Taskcluster's times are.
#[must_use]
pub fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(3)
}

impl Store {
    /// Opens a store. A bucket is not asked for anything yet.
    ///
    /// # Errors
    /// [`Error::Usage`] when the location makes no sense or its credentials are malformed; [`Error::Fs`] or
    /// [`Error::Store`] when a folder is not there.
    pub async fn open(
        location: &Location,
        if_missing: IfMissing,
        client: &Client,
        retry: &RetryPolicy,
    ) -> Result<Self> {
        if let Location::Folder(path) = location {
            let path = path.clone();
            return run_blocking(move || Self::open_folder(&path, if_missing)).await;
        }
        let location::Bucket {
            objects,
            signer,
            prefix,
        } = location.connect(client, retry)?;
        Ok(Self {
            objects,
            signer: Some(signer),
            prefix,
            folder: None,
            shown: location.to_string(),
            hashes: Hashes::default(),
        })
    }

    fn open_folder(path: &Path, if_missing: IfMissing) -> Result<Self> {
        if if_missing == IfMissing::Create {
            fs::create_missing(path)?;
        }
        let shown = path.display().to_string();
        let objects = location::folder(path).map_err(|source| Error::Store {
            action: "open the store",
            place: shown.clone(),
            absent: false,
            local: true,
            source: io::Error::other(redacted(&source.to_string())),
        })?;
        Ok(Self {
            objects: Arc::new(objects),
            signer: None,
            prefix: Key::default(),
            folder: Some(path.to_owned()),
            shown,
            hashes: Hashes::default(),
        })
    }

    /// Returns where the store is, for people.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Returns the directory for what artifacts unpack to, in a folder. It is nothing of the store's own: whatever is in
    /// it can be made again.
    #[must_use]
    pub fn trees(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join("trees"))
    }

    /// Returns a private directory for content on its way into the store: on its file system, if it is on this machine.
    ///
    /// # Errors
    /// [`Error::Fs`].
    pub fn staging(&self) -> Result<fs::Staging> {
        let staging = match &self.folder {
            Some(folder) => fs::Staging::inside(folder)?,
            None => fs::Staging::inside(&std::env::temp_dir())?,
        };
        staging.keep_parent();
        Ok(staging)
    }

    /// Returns a task's record; `None` if there is none. A task with artifacts need not have one.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Damaged`].
    pub async fn task(&self, task: &TaskId) -> Result<Option<TaskRecord>> {
        let read = self.read(&self.key(["task", task.as_str(), TASK])).await?;
        Ok(read.map(|(record, _)| record))
    }

    /// Writes a task's record, in place of the one that is there.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn put_task(&self, task: &TaskId, record: &TaskRecord) -> Result<()> {
        let _lock = self.lock_to_write().await?;
        let key = self.key(["task", task.as_str(), TASK]);
        self.write(&key, record, object_store::PutMode::Overwrite)
            .await
            .map_err(|err| self.failed("write", &key, &err))
    }

    /// Returns an artifact; `None` if there is none. In a folder also one without record, which somebody put there by
    /// hand: it is read to know its digest.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Damaged`], [`Error::Fs`].
    pub async fn artifact(&self, task: &TaskId, name: &ArtifactName) -> Result<Option<Artifact>> {
        match self.recorded(task, name).await? {
            Some(artifact) => Ok(Some(artifact)),
            None => self.plain_artifact(task, name).await,
        }
    }

    /// Returns an artifact that has a record.
    pub(crate) async fn recorded(
        &self,
        task: &TaskId,
        name: &ArtifactName,
    ) -> Result<Option<Artifact>> {
        let read = self.read(&self.artifact_key(task, name)).await?;
        Ok(read.map(|(artifact, _)| artifact))
    }

    /// Returns all artifacts of a task, by name.
    ///
    /// # Errors
    /// As [`Store::artifact`].
    pub async fn artifacts(&self, task: &TaskId) -> Result<Vec<Artifact>> {
        let keys = self.list(self.key(["task", task.as_str(), "info"])).await?;
        let read = stream::iter(keys).map(|key| async move { self.read(&key).await });
        let read: Vec<Option<(Artifact, _)>> =
            read.buffer_unordered(CONCURRENCY).try_collect().await?;
        let mut artifacts: Vec<_> = read
            .into_iter()
            .flatten()
            .map(|(artifact, _)| artifact)
            .collect();
        for name in self.plain_names(task).await? {
            if !artifacts.iter().any(|artifact| artifact.name == name) {
                artifacts.extend(self.plain_artifact(task, &name).await?);
            }
        }
        artifacts.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(artifacts)
    }

    /// Returns the ids of all tasks, in order.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn tasks(&self) -> Result<Vec<TaskId>> {
        let mut tasks: Vec<TaskId> = self
            .children(self.key(["task"]))
            .await?
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect();
        tasks.sort();
        Ok(tasks)
    }

    fn key<'a>(&self, parts: impl IntoIterator<Item = &'a str>) -> Key {
        parts.into_iter().fold(self.prefix.clone(), Key::join)
    }

    fn artifact_key(&self, task: &TaskId, name: &ArtifactName) -> Key {
        let digest = Sha256Digest::from_bytes(Sha256::digest(name.as_str()).into());
        let file = format!("{digest}.json");
        self.key(["task", task.as_str(), "info", &file])
    }

    /// Reads a record, with what tells whether it has changed.
    async fn read<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<(T, UpdateVersion)>> {
        let read = async {
            let found = self.objects.get(key).await?;
            let version = UpdateVersion {
                e_tag: found.meta.e_tag.clone(),
                version: found.meta.version.clone(),
            };
            Ok((found.bytes().await?, version))
        };
        let (bytes, version) = match read.await {
            Ok(read) => read,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(err) => return Err(self.failed("read", key, &err)),
        };
        let record = serde_json::from_slice(&bytes).map_err(|err| Error::Damaged {
            place: self.place(key),
            problem: format!("is not a record of a store: {err}"),
        })?;
        Ok(Some((record, version)))
    }

    async fn write<T: serde::Serialize>(
        &self,
        key: &Key,
        record: &T,
        mode: object_store::PutMode,
    ) -> object_store::Result<()> {
        let bytes = serde_json::to_vec_pretty(record).map_err(|err| {
            let source = Box::new(err);
            object_store::Error::Generic {
                store: "record",
                source,
            }
        })?;
        self.objects
            .put_opts(key, bytes.into(), mode.into())
            .await
            .map(|_| ())
    }

    /// Returns the keys below `prefix`, in order.
    async fn list(&self, prefix: Key) -> Result<Vec<Key>> {
        let keys = self
            .objects
            .list(Some(&prefix))
            .map_ok(|meta| meta.location);
        let mut keys: Vec<Key> = keys
            .try_collect()
            .await
            .map_err(|err| self.failed("list", &prefix, &err))?;
        keys.sort();
        Ok(keys)
    }

    /// Returns the names right below `prefix` that have something below them.
    async fn children(&self, prefix: Key) -> Result<Vec<String>> {
        let listed = self.objects.list_with_delimiter(Some(&prefix)).await;
        let listed = listed.map_err(|err| self.failed("list", &prefix, &err))?;
        let names = listed.common_prefixes.iter().filter_map(last_part);
        Ok(names.collect())
    }

    /// Keeps [`Store::gc`] of other processes away.
    async fn lock_to_write(&self) -> Result<Option<Lock>> {
        self.lock(".lock", Lock::shared).await
    }

    /// Locks the folder by one of its files. A bucket has no locks.
    async fn lock(&self, file: &str, how: fn(&Path) -> Result<Lock>) -> Result<Option<Lock>> {
        let Some(folder) = &self.folder else {
            return Ok(None);
        };
        let path = folder.join(file);
        run_blocking(move || how(&path)).await.map(Some)
    }

    fn place(&self, key: &Key) -> String {
        let below = key.as_ref().strip_prefix(self.prefix.as_ref());
        let below = below.unwrap_or(key.as_ref()).trim_start_matches('/');
        format!("{}/{below}", self.shown)
    }

    fn failed(&self, action: &'static str, key: &Key, err: &object_store::Error) -> Error {
        Error::Store {
            action,
            place: self.place(key),
            absent: matches!(err, object_store::Error::NotFound { .. }),
            local: self.folder.is_some(),
            source: io::Error::other(redacted(&err.to_string())),
        }
    }
}

/// Returns the last part of a key, as it was before keys encoded it.
fn last_part(key: &Key) -> Option<String> {
    let part = key.as_ref().rsplit('/').next()?;
    let decoded = percent_encoding::percent_decode_str(part)
        .decode_utf8()
        .ok()?;
    Some(decoded.into_owned())
}

/// Returns a text without the queries of its URLs, which may hold a signature.
fn redacted(text: &str) -> String {
    let words = text.split(' ').map(|word| match word.split_once('?') {
        Some((before, _)) if before.contains("://") => format!("{before}?…"),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::redacted;

    #[test]
    fn queries_of_urls_are_not_shown() {
        assert_eq!(
            redacted("GET https://h/b?sig=s3cret failed: what? why?"),
            "GET https://h/b?… failed: what? why?"
        );
    }
}
