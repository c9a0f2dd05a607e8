//! Blobs on their way into a layout and out of it.

use crate::{
    error::{Error, Result},
    fs::{self, Context, Staging},
    oci::{Descriptor, Digest, DigestWriter},
};
use sha2::{Digest as _, Sha256};
use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

/// A blob under construction. Without [`NewBlob::finish`] nothing becomes of it.
#[derive(Debug)]
pub struct NewBlob {
    file: DigestWriter<File>,
    path: PathBuf,
    blobs: PathBuf,
    staging: Arc<Staging>,
}

/// A file that is complete, and has no name in its layout yet.
#[derive(Clone, Debug)]
pub struct StagedBlob {
    /// Where it is.
    pub path: PathBuf,
    /// Its digest.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
}

impl NewBlob {
    pub(super) fn create(staging: Arc<Staging>, blobs: PathBuf) -> Result<Self> {
        let path = staging.fresh()?.join("blob");
        Ok(Self {
            file: DigestWriter::new(fs::create_new(&path)?),
            path,
            blobs,
            staging,
        })
    }

    /// Ends the blob, which is to be taken over by [`super::Layout::adopt`].
    ///
    /// # Errors
    /// [`Error::Fs`].
    pub fn finish(self) -> Result<StagedBlob> {
        let (mut file, digest, size) = self.file.finish();
        file.flush().context("write", &self.path)?;
        Ok(StagedBlob {
            path: self.path,
            digest,
            size,
        })
    }

    /// Ends the blob and puts it in its place, if it is what it should be.
    ///
    /// # Errors
    /// [`Error::Damaged`] if not, [`Error::Fs`].
    pub fn finish_as(self, descriptor: &Descriptor) -> Result<()> {
        let (blobs, staging) = (self.blobs.clone(), Arc::clone(&self.staging));
        let staged = self.finish()?;
        if (staged.digest, staged.size) != (descriptor.digest, descriptor.size) {
            return Err(Error::Damaged {
                place: format!("blob {}", descriptor.digest),
                problem: format!(
                    "has the digest {} and {} bytes, expected {} bytes",
                    staged.digest, staged.size, descriptor.size
                ),
            });
        }
        publish(&staged.path, &staging, &blobs, &staged.digest)
    }
}

impl Write for NewBlob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Gives a complete blob its name.
pub(super) fn publish(file: &Path, staging: &Staging, blobs: &Path, digest: &Digest) -> Result<()> {
    staging.keep_parent();
    fs::create_missing(blobs)?;
    // In place of one of the same name, which others may have damaged.
    fs::rename(file, &blobs.join(digest.hex()))
}

/// Reads a blob, and compares it with its descriptor. The end is told only when everything is right.
pub struct BlobReader {
    inner: Box<dyn Read + Send>,
    hasher: Sha256,
    left: u64,
    expected: Digest,
    place: String,
}

impl BlobReader {
    /// Wraps a reader of what is to be the content of a blob, which errors call `place`.
    #[must_use]
    pub fn new(inner: Box<dyn Read + Send>, descriptor: &Descriptor, place: String) -> Self {
        Self {
            inner,
            hasher: Sha256::new(),
            left: descriptor.size,
            expected: descriptor.digest,
            place,
        }
    }

    fn damaged(&self, problem: String) -> io::Error {
        io::Error::other(Error::Damaged {
            place: self.place.clone(),
            problem,
        })
    }

    fn end(&self) -> io::Result<usize> {
        let actual = Digest(crate::digest::Sha256Digest::from_bytes(
            self.hasher.clone().finalize().into(),
        ));
        if actual == self.expected {
            return Ok(0);
        }
        let problem = format!("has the digest {actual}, expected {}", self.expected);
        Err(self.damaged(problem))
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let length = self.inner.read(buffer)?;
        if length as u64 > self.left {
            return Err(self.damaged("is longer than it should be".into()));
        }
        if length == 0 && self.left > 0 {
            return Err(self.damaged(format!("ends {} bytes early", self.left)));
        }
        if length == 0 {
            return self.end();
        }
        self.hasher.update(&buffer[..length]);
        self.left -= length as u64;
        Ok(length)
    }
}

impl std::fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobReader")
            .field("expected", &self.expected)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

/// Returns what reading a blob failed with.
pub(super) fn failure(err: io::Error, path: &Path) -> Error {
    err.downcast().unwrap_or_else(|source| Error::Fs {
        action: "read",
        path: path.to_owned(),
        source,
    })
}
