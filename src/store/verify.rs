//! Finding out whether a store holds what it says it does.

use crate::{
    digest::Sha256Digest,
    error::{Error, Result},
    fs::{self, Lock},
    store::{Artifact, Store, content::hash, last_part},
    stream::bridge::run_blocking,
    task::TaskId,
};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{ObjectMeta, ObjectStoreExt, path::Path as Key};
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// Contents read at a time.
const READERS: usize = 4;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Content that is not what its name says.
    Content {
        /// Its place.
        place: String,
        /// What it should be.
        sha256: Sha256Digest,
        /// What it is.
        actual: Sha256Digest,
    },
    /// A record that cannot be read.
    Record {
        /// Its place.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// An artifact whose content is not there, or not whole.
    Artifact {
        /// Its task.
        task: TaskId,
        /// The artifact.
        artifact: String,
        /// What is wrong.
        problem: String,
    },
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Content { place, actual, .. } => write!(f, "{place} has sha256 {actual}"),
            Self::Record { place, problem } => write!(f, "{place} {problem}"),
            Self::Artifact {
                task,
                artifact,
                problem,
            } => write!(f, "{artifact} of task {task} {problem}"),
        }
    }
}

impl Store {
    /// Reads all content, and compares it with what is said about it. With `discard`, what is damaged is removed, as if
    /// it had never been stored.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Fs`].
    pub async fn verify(&self, discard: bool) -> Result<Vec<Damage>> {
        // What is damaged must not be found good enough to be kept by a writer while it is removed.
        let _alone = if discard {
            self.lock(".lock", Lock::exclusive).await?
        } else {
            None
        };
        let (mut damages, mut good) = (Vec::new(), HashMap::new());
        let mut checks = stream::iter(self.contents().await?)
            .map(|(sha256, meta)| async move {
                let actual = self.digest_of(&meta).await?;
                Ok::<_, Error>((sha256, actual, meta))
            })
            .buffer_unordered(READERS);
        while let Some((sha256, actual, meta)) = checks.try_next().await? {
            // What has gone in the meantime is not damaged.
            let Some(actual) = actual else { continue };
            if actual == sha256 {
                good.insert(sha256, meta.size);
                continue;
            }
            damages.push(Damage::Content {
                place: self.place(&meta.location),
                sha256,
                actual,
            });
            if discard {
                self.remove(&meta.location).await?;
            }
        }
        drop(checks);
        for task in self.tasks().await? {
            self.verify_task(&task, &good, discard, &mut damages)
                .await?;
        }
        Ok(damages)
    }

    async fn verify_task(
        &self,
        task: &TaskId,
        good: &HashMap<Sha256Digest, u64>,
        discard: bool,
        damages: &mut Vec<Damage>,
    ) -> Result<()> {
        for key in self.list(self.key(["task", task.as_str(), "info"])).await? {
            let artifact = match self.read::<Artifact>(&key).await {
                Ok(Some((artifact, _))) => artifact,
                Ok(None) => continue,
                Err(Error::Damaged { place, problem }) => {
                    damages.push(Damage::Record { place, problem });
                    if discard {
                        self.remove(&key).await?;
                    }
                    continue;
                }
                Err(err) => return Err(err),
            };
            if let Some(problem) = self.problem(task, &artifact, good).await? {
                damages.push(Damage::Artifact {
                    task: task.clone(),
                    artifact: artifact.name.to_string(),
                    problem,
                });
                if discard {
                    self.discard(task, &artifact, &key).await?;
                }
            }
        }
        Ok(())
    }

    /// Returns what is wrong with an artifact.
    async fn problem(
        &self,
        task: &TaskId,
        artifact: &Artifact,
        good: &HashMap<Sha256Digest, u64>,
    ) -> Result<Option<String>> {
        match good.get(&artifact.sha256) {
            Some(size) if *size == artifact.size => {}
            Some(size) => {
                let expected = artifact.size;
                return Ok(Some(format!("has {size} bytes, expected {expected}")));
            }
            // It may have been stored since all content was listed.
            None if self.is_young(artifact).await? => {}
            None => return Ok(Some("has no good content".into())),
        }
        let (Some(plain), Some(content)) = (
            self.plain_path(task, &artifact.name),
            self.content_path(&artifact.sha256),
        ) else {
            return Ok(None);
        };
        let sha256 = artifact.sha256;
        run_blocking(move || {
            if fs::are_same(&plain, &content) {
                return Ok(None);
            }
            let shown = plain.display().to_string();
            match fs::size_of(&plain)? {
                // Its writer was killed just before that. The artifact is whole without it, and gc links it.
                None => Ok(None),
                Some(_) => match hash(&plain)?.sha256 {
                    same if same == sha256 => Ok(None),
                    actual => Ok(Some(format!(
                        "is another file, {shown}, with sha256 {actual}"
                    ))),
                },
            }
        })
        .await
    }

    /// Whether the content of an artifact is there, although it was not when all content was listed.
    async fn is_young(&self, artifact: &Artifact) -> Result<bool> {
        let key = self.content_key(&artifact.sha256);
        match self.objects.head(&key).await {
            Ok(meta) => Ok(self.digest_of(&meta).await? == Some(artifact.sha256)),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(err) => Err(self.failed("look at", &key, &err)),
        }
    }

    async fn discard(&self, task: &TaskId, artifact: &Artifact, key: &Key) -> Result<()> {
        if let Some(plain) = self.plain_path(task, &artifact.name) {
            run_blocking(move || fs::remove_if_there(&plain)).await?;
        }
        self.remove(key).await
    }

    /// Reads content; `None` if it is not there any more.
    async fn digest_of(&self, meta: &ObjectMeta) -> Result<Option<Sha256Digest>> {
        let name = last_part(&meta.location).and_then(|name| name.parse().ok());
        if let Some(path) = name.and_then(|sha256| self.content_path(&sha256)) {
            return match run_blocking(move || hash(&path)).await {
                Err(err) if err.is_absence() => Ok(None),
                hashed => Ok(Some(hashed?.sha256)),
            };
        }
        let mut chunks = match self.object_chunks(&meta.location, 0..meta.size).await {
            Err(err) if err.is_absence() => return Ok(None),
            opened => opened?,
        };
        let mut hasher = Sha256::default();
        while let Some(chunk) = chunks.try_next().await? {
            hasher.update(&chunk);
        }
        Ok(Some(Sha256Digest::from_bytes(hasher.finalize().into())))
    }
}
