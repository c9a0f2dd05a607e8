//! Writing: a finished file becomes an artifact of a task.

use crate::{
    error::{Error, Result},
    fs::{self, Staging},
    store::{
        Artifact, Store,
        content::{Hashed, hash},
        now,
        record::has_expired,
    },
    stream::bridge::run_blocking,
    task::{ArtifactName, TaskId},
};
use chrono::{DateTime, Utc};
use object_store::{ObjectStoreExt, PutMode, WriteMultipart};
use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

/// The least size of the parts that content goes into a bucket in, in bytes.
const PART: u64 = 8 << 20;

/// The most parts that an upload to S3 may have.
const MAX_PARTS: u64 = 10_000;

/// Parts on their way at a time.
const PARTS_AT_ONCE: usize = 3;

/// The age from which content in a bucket that nobody refers to may go. A writer that finds its content there already,
/// but older than half of this, writes it again, so that it is young when its record is written.
pub(super) const YOUNG: Duration = Duration::from_secs(24 * 3600);

/// A finished file, to be stored.
#[derive(Clone, Debug)]
pub enum Handover {
    /// The store takes it away. Whoever wrote it does not write it any more.
    Move(PathBuf),
    /// It stays where it is.
    Copy(PathBuf),
}

/// What is said of an artifact.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// What kind of content it is.
    pub content_type: String,
    /// When it goes.
    pub expires: Option<DateTime<Utc>>,
}

/// Content in the staging directory of a folder.
struct Staged {
    staging: Staging,
    file: PathBuf,
    hashed: Hashed,
}

impl Store {
    /// Stores a file as an artifact of a task, which need not exist yet. The same again is no error, and may live longer
    /// then.
    ///
    /// # Errors
    /// [`Error::Conflict`] when there is another artifact of that name; [`Error::Fs`] and [`Error::Store`] when it cannot
    /// be read or written.
    ///
    /// # Cancel safety
    /// When dropped, the artifact is there or not; content that was written may stay, until [`Store::gc`].
    pub async fn publish(
        &self,
        task: &TaskId,
        name: &ArtifactName,
        file: Handover,
        metadata: Metadata,
    ) -> Result<Artifact> {
        let artifact = |hashed: Hashed| Artifact {
            name: name.clone(),
            sha256: hashed.sha256,
            size: hashed.size,
            content_type: metadata.content_type,
            created: now(),
            expires: metadata.expires,
        };
        match (&self.folder, self.plain_path(task, name)) {
            (Some(folder), Some(plain)) => {
                check_is_file_name(name)?;
                let folder = folder.clone();
                let staged = run_blocking(move || stage(&folder, file)).await?;
                self.publish_file(task, artifact(staged.hashed), staged, plain)
                    .await
            }
            _ => self.publish_object(task, artifact, file).await,
        }
    }

    /// Puts staged content under its digest, writes the record, and links the artifact for those who know no records.
    async fn publish_file(
        &self,
        task: &TaskId,
        artifact: Artifact,
        staged: Staged,
        plain: PathBuf,
    ) -> Result<Artifact> {
        let lock = self.lock_to_write().await?;
        let content = self.content_path(&artifact.sha256).unwrap_or_default();
        let link = staged.staging.fresh()?.join("link");
        let size = artifact.size;
        let prepared = run_blocking(move || {
            settle(&staged.file, &content, size)?;
            // Whatever keeps it from being linked is found out before the record is written.
            fs::make_parent(&plain)?;
            if fs::is_directory(&plain) {
                let place = plain.display().to_string();
                let problem =
                    "is a directory: there are artifacts whose names go on from there".into();
                return Err(Error::Conflict { place, problem });
            }
            fs::hard_link(&content, &link)?;
            Ok((staged, link, plain))
        });
        let (staged, link, plain) = prepared.await?;
        let artifact = self.record(task, artifact).await?;
        run_blocking(move || {
            fs::rename(&link, &plain)?;
            drop((staged, lock));
            Ok(())
        })
        .await?;
        Ok(artifact)
    }

    async fn publish_object(
        &self,
        task: &TaskId,
        artifact: impl FnOnce(Hashed) -> Artifact,
        file: Handover,
    ) -> Result<Artifact> {
        let (Handover::Move(path) | Handover::Copy(path)) = &file;
        let hashed = {
            let path = path.clone();
            run_blocking(move || hash(&path)).await?
        };
        self.put_content(path, hashed).await?;
        let artifact = self.record(task, artifact(hashed)).await?;
        // Somebody may have thought between the two that it is not needed.
        self.put_content(path, hashed).await?;
        if let Handover::Move(path) = file {
            run_blocking(move || fs::remove_file(&path)).await?;
        }
        Ok(artifact)
    }

    /// Writes the record of an artifact whose content is there, or finds the one that is.
    async fn record(&self, task: &TaskId, artifact: Artifact) -> Result<Artifact> {
        let key = self.artifact_key(task, &artifact.name);
        let failed = |err| self.failed("write", &key, &err);
        match self.write(&key, &artifact, PutMode::Create).await {
            Ok(()) => return Ok(artifact),
            Err(object_store::Error::AlreadyExists { .. }) => {}
            Err(err) => return Err(failed(err)),
        }
        let there = self.read::<Artifact>(&key).await?;
        let (there, version) = there.ok_or_else(|| Error::Conflict {
            place: self.place(&key),
            problem: "was removed while it was written".into(),
        })?;
        if there.sha256 != artifact.sha256 && !has_expired(there.expires, now()) {
            return Err(Error::Conflict {
                place: format!("artifact {} of task {task}", artifact.name),
                problem: format!(
                    "exists already, with sha256 {}; got {}",
                    there.sha256, artifact.sha256
                ),
            });
        }
        let later = match (there.expires, artifact.expires) {
            (Some(old), Some(new)) => new > old,
            (old, new) => old.is_some() && new.is_none(),
        };
        if there.sha256 == artifact.sha256 && !later {
            return Ok(there);
        }
        let mode = match self.folder {
            Some(_) => PutMode::Overwrite,
            None => PutMode::Update(version),
        };
        self.write(&key, &artifact, mode).await.map_err(failed)?;
        Ok(artifact)
    }

    /// Puts content into a bucket unless it is there, and young enough to stay.
    async fn put_content(&self, path: &Path, hashed: Hashed) -> Result<()> {
        let key = self.content_key(&hashed.sha256);
        let failed = |err| self.failed("write", &key, &err);
        match self.objects.head(&key).await {
            Ok(found) => {
                let age = (Utc::now() - found.last_modified)
                    .to_std()
                    .unwrap_or_default();
                if found.size == hashed.size && age < YOUNG / 2 {
                    return Ok(());
                }
            }
            Err(object_store::Error::NotFound { .. }) => {}
            Err(err) => return Err(failed(err)),
        }
        let part = PART.max(hashed.size.div_ceil(MAX_PARTS));
        if hashed.size <= part {
            let bytes = read_part(path, 0, part).await?;
            return self
                .objects
                .put(&key, bytes.into())
                .await
                .map(|_| ())
                .map_err(failed);
        }
        let upload = self.objects.put_multipart(&key).await.map_err(failed)?;
        let part_size = usize::try_from(part).unwrap_or(usize::MAX);
        let mut upload = WriteMultipart::new_with_chunk_size(upload, part_size);
        let mut offset = 0;
        while offset < hashed.size {
            let sent = async {
                let bytes = read_part(path, offset, part).await?;
                upload
                    .wait_for_capacity(PARTS_AT_ONCE - 1)
                    .await
                    .map_err(failed)?;
                offset += bytes.len() as u64;
                if bytes.is_empty() {
                    return Err(changed(path));
                }
                upload.put(bytes.into());
                Ok(())
            };
            if let Err(err) = sent.await {
                // What was sent would be kept, and paid for, for ever.
                let _ = upload.abort().await;
                return Err(err);
            }
        }
        upload.finish().await.map(|_| ()).map_err(failed)
    }
}

/// Brings a file to the file system of a folder, and finds out what it is. Nobody writes it from now on.
fn stage(folder: &Path, file: Handover) -> Result<Staged> {
    let staging = Staging::inside(folder)?;
    staging.keep_parent();
    let staged = staging.fresh()?.join("content");
    match file {
        Handover::Move(path) => fs::take(&path, &staged)?,
        Handover::Copy(path) => fs::copy(&path, &staged)?,
    }
    fs::seal(&staged)?;
    let hashed = hash(&staged)?;
    Ok(Staged {
        staging,
        file: staged,
        hashed,
    })
}

/// Gives content its place. Content of that digest which is there already stays, unless it is not whole: where one
/// writer replaced the file that another is about to link, that link would fail.
fn settle(staged: &Path, content: &Path, size: u64) -> Result<()> {
    match fs::size_of(content)? {
        Some(there) if there == size => return Ok(()),
        Some(_) => return fs::rename(staged, content),
        None => fs::make_parent(content)?,
    }
    match fs::hard_link(staged, content) {
        // Somebody else was quicker with the same.
        Err(Error::Fs { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    }
}

async fn read_part(path: &Path, offset: u64, size: u64) -> Result<Vec<u8>> {
    let path = path.to_owned();
    run_blocking(move || {
        use crate::fs::Context;
        use std::io::Seek;
        let mut file = fs::open(&path)?;
        file.seek(std::io::SeekFrom::Start(offset))
            .context("read", &path)?;
        let mut bytes = Vec::new();
        file.take(size)
            .read_to_end(&mut bytes)
            .context("read", &path)?;
        Ok(bytes)
    })
    .await
}

fn changed(path: &Path) -> Error {
    Error::Damaged {
        place: path.display().to_string(),
        problem: "became shorter while it was read".into(),
    }
}

/// A folder has the artifact under its name, where two slashes in a row would be one.
fn check_is_file_name(name: &ArtifactName) -> Result<()> {
    if name.as_str().contains("//") {
        return Err(Error::usage(format!(
            "artifact name `{name}` has an empty segment: a store in a folder cannot hold it"
        )));
    }
    Ok(())
}
