//! Reading: content as a stream, as a file or as a source of a download; and artifacts that are files without a record.

use crate::{
    digest::Sha256Digest,
    error::{Error, Result},
    fs::{self, Context},
    http::{Address, Source},
    store::{Artifact, Store, now},
    stream::bridge::run_blocking,
    task::{ArtifactName, TaskId},
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{GetOptions, ObjectStoreExt, path::Path as Key, signer::Method};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    io::{Read, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

/// Content on its way out of a store.
pub type Chunks = BoxStream<'static, Result<Bytes>>;

/// Size of chunks that are read from a file, in bytes.
const CHUNK: usize = 256 * 1024;

/// How long the URL of content in a bucket can be used: a run may wait long for its turn.
const SIGNED_FOR: Duration = Duration::from_secs(12 * 3600);

/// What artifacts without a record were found to be, as long as they do not change.
#[derive(Debug, Default)]
pub(super) struct Hashes(Mutex<HashMap<PathBuf, (Stamp, Hashed)>>);

/// Size and time of change: what tells that a file has not changed.
type Stamp = (u64, Option<SystemTime>);

/// A whole content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hashed {
    pub(super) sha256: Sha256Digest,
    pub(super) size: u64,
}

impl Store {
    /// Opens the content of an artifact, or `range` of it. In a bucket nothing is asked for before the stream is read.
    ///
    /// # Errors
    /// [`Error::Fs`] or [`Error::Store`] when it is not there.
    pub async fn open_content(
        &self,
        task: &TaskId,
        artifact: &Artifact,
        range: Range<u64>,
    ) -> Result<Chunks> {
        match self.path(task, artifact) {
            Some(path) => file_chunks(&path, range).await,
            None => {
                self.object_chunks(&self.content_key(&artifact.sha256), range)
                    .await
            }
        }
    }

    /// Returns where the content of an artifact is, if that is a file of this machine. It may be linked and read, but
    /// not changed.
    #[must_use]
    pub fn path(&self, task: &TaskId, artifact: &Artifact) -> Option<PathBuf> {
        let content = self.content_path(&artifact.sha256)?;
        if content.is_file() {
            return Some(content);
        }
        // Without a record it is only here.
        self.plain_path(task, &artifact.name)
    }

    /// Returns where to download an artifact from: its file, or a URL that is good for some hours. What its content must
    /// be is for the caller to check, by [`Artifact::expected`].
    ///
    /// # Errors
    /// As [`Store::artifact`]; [`Error::Store`] when a bucket does not have it.
    pub async fn source(&self, task: &TaskId, name: &ArtifactName) -> Result<Source> {
        if let Some(plain) = self.plain_path(task, name) {
            if plain.is_file() {
                return Ok(Source::File(plain));
            }
            // Not linked there any more, or not yet.
            let artifact = self.artifact(task, name).await?;
            let file = artifact.and_then(|artifact| self.path(task, &artifact));
            return Ok(Source::File(file.unwrap_or(plain)));
        }
        let key = self.artifact_key(task, name);
        let Some(artifact) = self.artifact(task, name).await? else {
            return Err(Error::Store {
                action: "find artifact",
                place: format!("{name} of task {task} in {}", self.shown),
                absent: true,
                local: false,
                source: std::io::ErrorKind::NotFound.into(),
            });
        };
        let content = self.content_key(&artifact.sha256);
        let signed = match &self.signer {
            Some(signer) => signer.signed_url(Method::GET, &content, SIGNED_FOR).await,
            None => Err(object_store::Error::NotSupported {
                source: "no signer".into(),
            }),
        };
        let url = signed.map_err(|err| self.failed("sign the URL of", &key, &err))?;
        Ok(Source::Url(Box::new(Address {
            handed_out: true,
            ..Address::from(url)
        })))
    }

    pub(super) fn content_key(&self, sha256: &Sha256Digest) -> Key {
        let digits = sha256.to_string();
        self.key(["sha256", &digits[..2], &digits])
    }

    pub(super) fn content_path(&self, sha256: &Sha256Digest) -> Option<PathBuf> {
        let digits = sha256.to_string();
        let folder = self.folder.as_ref()?;
        Some(folder.join("sha256").join(&digits[..2]).join(digits))
    }

    /// Returns where an artifact is linked to, for programs that know nothing of records.
    pub(super) fn plain_path(&self, task: &TaskId, name: &ArtifactName) -> Option<PathBuf> {
        Some(self.plain_folder(task)?.join(name.as_str()))
    }

    pub(super) fn plain_folder(&self, task: &TaskId) -> Option<PathBuf> {
        let folder = self.folder.as_ref()?;
        Some(folder.join("task").join(task.as_str()).join("artifacts"))
    }

    /// Returns an artifact that is a file and has no record.
    pub(super) async fn plain_artifact(
        &self,
        task: &TaskId,
        name: &ArtifactName,
    ) -> Result<Option<Artifact>> {
        let Some(path) = self.plain_path(task, name) else {
            return Ok(None);
        };
        let of = path.clone();
        let Some(stamp) = run_blocking(move || stamp(&of)).await? else {
            return Ok(None);
        };
        let Hashed { sha256, size } = if let Some(hashed) = self.hashes.find(&path, stamp) {
            hashed
        } else {
            let of = path.clone();
            let hashed = run_blocking(move || hash(&of)).await?;
            self.hashes.remember(path, stamp, hashed);
            hashed
        };
        Ok(Some(Artifact {
            name: name.clone(),
            sha256,
            size,
            content_type: "application/octet-stream".into(),
            created: stamp.1.map_or_else(now, Into::into),
            expires: None,
        }))
    }

    /// Returns the names of all artifacts of a task that are files.
    pub(super) async fn plain_names(&self, task: &TaskId) -> Result<Vec<ArtifactName>> {
        let Some(folder) = self.plain_folder(task) else {
            return Ok(Vec::new());
        };
        let name = |folder: &Path, path: &Path| -> Option<ArtifactName> {
            path.strip_prefix(folder).ok()?.to_str()?.parse().ok()
        };
        run_blocking(move || {
            let files = fs::files_below(&folder)?;
            Ok(files
                .iter()
                .filter_map(|path| name(&folder, path))
                .collect())
        })
        .await
    }

    /// Reads an object. What breaks is asked for again from there, by the store's crate.
    pub(super) async fn object_chunks(&self, key: &Key, range: Range<u64>) -> Result<Chunks> {
        if range.is_empty() {
            // There is no such range to ask for.
            let found = self.objects.head(key).await;
            found.map_err(|err| self.failed("read", key, &err))?;
            return Ok(futures::stream::empty().boxed());
        }
        let options = GetOptions {
            range: Some(range.into()),
            ..GetOptions::default()
        };
        let found = self.objects.get_opts(key, options).await;
        let found = found.map_err(|err| self.failed("read", key, &err))?;
        let (place, local) = (self.place(key), self.folder.is_some());
        let failed = move |err: object_store::Error| Error::Store {
            action: "read",
            place: place.clone(),
            absent: false,
            local,
            source: std::io::Error::other(super::redacted(&err.to_string())),
        };
        Ok(found.into_stream().map_err(failed).boxed())
    }
}

impl Hashes {
    fn find(&self, path: &Path, stamp: Stamp) -> Option<Hashed> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, hashed) = known.get(path)?;
        (*of == stamp).then_some(*hashed)
    }

    fn remember(&self, path: PathBuf, stamp: Stamp, hashed: Hashed) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(path, (stamp, hashed));
    }
}

/// Returns what tells whether a regular file has changed; `None` if there is none.
fn stamp(path: &Path) -> Result<Option<Stamp>> {
    let Some(size) = fs::size_of(path)? else {
        return Ok(None);
    };
    let found = fs::open(path)?.metadata().context("look at", path)?;
    Ok(Some((size, found.modified().ok())))
}

/// Reads a whole file to know what it is.
pub(super) fn hash(path: &Path) -> Result<Hashed> {
    let mut file = fs::open(path)?;
    let (mut hasher, mut size) = (Sha256::default(), 0);
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer).context("read", path)? {
            0 => break,
            read => {
                hasher.update(&buffer[..read]);
                size += read as u64;
            }
        }
    }
    let sha256 = Sha256Digest::from_bytes(hasher.finalize().into());
    Ok(Hashed { sha256, size })
}

async fn file_chunks(path: &Path, range: Range<u64>) -> Result<Chunks> {
    let mut file = fs::open_async(path).await?;
    if range.start > 0 {
        let start = SeekFrom::Start(range.start);
        file.seek(start).await.context("read", path)?;
    }
    let path = path.to_owned();
    let part = file.take(range.end - range.start);
    let chunks = ReaderStream::with_capacity(part, CHUNK)
        .map(move |chunk| chunk.context("read", &path))
        .boxed();
    Ok(chunks)
}
