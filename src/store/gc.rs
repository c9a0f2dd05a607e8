//! Removing what has expired and what nobody refers to.

use crate::{
    digest::Sha256Digest,
    error::Result,
    fs::{self, Lock},
    store::{
        Artifact, IndexEntry, Store, TASK, TaskRecord, last_part, now, publish::YOUNG,
        record::has_expired,
    },
    stream::bridge::run_blocking,
    task::TaskId,
};
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStoreExt, path::Path as Key};
use std::{collections::HashSet, path::Path, time::Duration};

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Entries of the index.
    pub entries: u64,
    /// Tasks, with their artifacts.
    pub tasks: u64,
    /// Artifacts of tasks that stay.
    pub artifacts: u64,
    /// Contents.
    pub contents: u64,
    /// Bytes of contents.
    pub bytes: u64,
}

impl Store {
    /// Removes index entries, tasks and artifacts that have expired, and content that no artifact has any more, with what
    /// it was unpacked to; in a folder, links what a killed writer had no time to link. Others may use the store in the
    /// meantime: those who want to write to a folder wait, and in a bucket all content stays that is younger than a day.
    ///
    /// # Errors
    /// [`crate::Error::Store`], [`crate::Error::Fs`]; [`crate::Error::Damaged`] for a record that cannot be read: nobody
    /// knows what it refers to.
    pub async fn gc(&self) -> Result<Swept> {
        let _alone = self.lock(".lock", Lock::exclusive).await?;
        let now = now();
        let mut swept = Swept::default();
        // Before anybody can refer to it in the time that the rest takes.
        let contents = self.contents().await?;
        self.sweep_index(now, &mut swept).await?;
        let mut needed = HashSet::new();
        for task in self.tasks().await? {
            self.sweep_task(&task, now, &mut needed, &mut swept).await?;
        }
        for (sha256, meta) in contents {
            if !needed.contains(&sha256) && self.may_go(&meta).await? {
                self.remove(&meta.location).await?;
                swept.contents += 1;
                swept.bytes += meta.size;
            }
        }
        if let (Some(folder), Some(trees)) = (self.folder.clone(), self.trees()) {
            run_blocking(move || {
                sweep_unfinished(&folder)?;
                sweep_trees(&trees, &needed)
            })
            .await?;
        }
        Ok(swept)
    }

    /// Returns all contents, by digest.
    pub(super) async fn contents(&self) -> Result<Vec<(Sha256Digest, ObjectMeta)>> {
        let prefix = self.key(["sha256"]);
        let listed = self.objects.list(Some(&prefix));
        let found = listed.try_filter_map(|meta| async move {
            let digest = last_part(&meta.location).and_then(|name| name.parse().ok());
            Ok(digest.map(|digest| (digest, meta)))
        });
        let found = found.try_collect().await;
        found.map_err(|err| self.failed("list", &prefix, &err))
    }

    async fn sweep_index(&self, now: DateTime<Utc>, swept: &mut Swept) -> Result<()> {
        for key in self.list(self.key(["index"])).await? {
            if self.namespace_of(&key).is_none() {
                continue;
            }
            let entry = self.read::<IndexEntry>(&key).await?;
            if entry.is_some_and(|(entry, _)| has_expired(Some(entry.expires), now)) {
                self.remove(&key).await?;
                swept.entries += 1;
            }
        }
        Ok(())
    }

    /// Removes what has expired of a task, and adds to `needed` what stays.
    async fn sweep_task(
        &self,
        task: &TaskId,
        now: DateTime<Utc>,
        needed: &mut HashSet<Sha256Digest>,
        swept: &mut Swept,
    ) -> Result<()> {
        let record: Option<TaskRecord> = self.task(task).await?;
        let all = record.is_some_and(|record| has_expired(record.expires, now));
        for key in self.list(self.key(["task", task.as_str(), "info"])).await? {
            let Some((artifact, _)) = self.read::<Artifact>(&key).await? else {
                continue;
            };
            if !all && !has_expired(artifact.expires, now) {
                self.link_if_missing(task, &artifact).await?;
                needed.insert(artifact.sha256);
                continue;
            }
            // Without its record it would still be there as a file.
            if let Some(plain) = self.plain_path(task, &artifact.name) {
                run_blocking(move || fs::remove_if_there(&plain)).await?;
            }
            self.remove(&key).await?;
            swept.artifacts += u64::from(!all);
        }
        if all {
            self.remove(&self.key(["task", task.as_str(), TASK]))
                .await?;
            swept.tasks += 1;
            if let Some(folder) = &self.folder {
                let directory = folder.join("task").join(task.as_str());
                run_blocking(move || fs::remove_tree(&directory)).await?;
            }
        }
        Ok(())
    }

    /// Links an artifact by its name, as its writer would have done had it not been killed just before that.
    async fn link_if_missing(&self, task: &TaskId, artifact: &Artifact) -> Result<()> {
        let (Some(plain), Some(content)) = (
            self.plain_path(task, &artifact.name),
            self.content_path(&artifact.sha256),
        ) else {
            return Ok(());
        };
        run_blocking(move || {
            if fs::size_of(&plain)?.is_some() || fs::size_of(&content)?.is_none() {
                return Ok(());
            }
            fs::make_parent(&plain)?;
            fs::hard_link(&content, &plain)
        })
        .await
    }

    /// Whether content that nobody refers to may be removed. In a bucket a writer may be about to refer to it.
    async fn may_go(&self, meta: &ObjectMeta) -> Result<bool> {
        if self.folder.is_some() {
            return Ok(true);
        }
        let is_old = |meta: &ObjectMeta| {
            let age = (Utc::now() - meta.last_modified).to_std();
            age.unwrap_or(Duration::ZERO) >= YOUNG
        };
        if !is_old(meta) {
            return Ok(false);
        }
        // It may have been written again.
        match self.objects.head(&meta.location).await {
            Ok(now) => Ok(is_old(&now)),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(err) => Err(self.failed("look at", &meta.location, &err)),
        }
    }

    pub(super) async fn remove(&self, key: &Key) -> Result<()> {
        match self.objects.delete(key).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(err) => Err(self.failed("remove", key, &err)),
        }
    }
}

/// Removes what killed writers of records left behind: the store's crate writes `NAME#NUMBER` and renames it. Nobody
/// writes at this time.
fn sweep_unfinished(folder: &Path) -> Result<()> {
    let is_unfinished = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.and_then(|name| name.rsplit_once(".json#"))
            .is_some_and(|(_, number)| number.bytes().all(|digit| digit.is_ascii_digit()))
    };
    let mut directories = vec![folder.join("index")];
    if let Ok(tasks) = fs::Dir::open(&folder.join("task")) {
        for name in tasks.names()? {
            let task = tasks.path().join(name);
            directories.push(task.join("info"));
            // Only what is right in it: artifacts may be called anything.
            if let Ok(dir) = fs::Dir::open(&task) {
                for name in dir.names()? {
                    let path = task.join(name);
                    if is_unfinished(&path) {
                        fs::remove_if_there(&path)?;
                    }
                }
            }
        }
    }
    for directory in directories {
        for path in fs::files_below(&directory)? {
            if is_unfinished(&path) {
                fs::remove_if_there(&path)?;
            }
        }
    }
    Ok(())
}

/// Removes what contents were unpacked to that nobody needs any more.
fn sweep_trees(trees: &Path, needed: &HashSet<Sha256Digest>) -> Result<()> {
    let Ok(dir) = fs::Dir::open(trees) else {
        // Nothing has been unpacked yet.
        return Ok(());
    };
    for name in dir.names()? {
        let of = name.to_str().and_then(|name| name.parse().ok());
        if of.is_some_and(|sha256| !needed.contains(&sha256)) {
            fs::remove_tree(&trees.join(name))?;
        }
    }
    Ok(())
}
