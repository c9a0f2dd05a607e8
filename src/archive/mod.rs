//! Archives: what content is, decoding it, and creating what is in it inside a staging directory. The only room that
//! names tar and zip.
//!
//! [`place`] is the blocking half of a fetch. It takes the content from the border as it arrives:
//!
//! ```text
//! BlockingReader ─▶ sniff ─┬▶ tar:   decode (thread) ─▶ extract into a Tree, or repack
//!                          ├▶ zip:   spool to the end ─▶ extract with several threads, or repack
//!                          │           └▶ decode large members (thread) ─┘
//!                          └▶ other: keep as a file
//! ```

mod bzip2;
mod decode;
mod format;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
pub(crate) mod limits;
mod repack;
mod tar;
mod zip;

use crate::{
    digest::Sha256Digest,
    error::Result,
    fs::{self, Context},
    stream::{BlockingReader, ReadAhead, TakeBytes},
};
use bytes::Bytes;
use format::{Compression, Format, Rewindable, sniff};
pub use limits::Limits;
pub use repack::Repack;
pub(crate) use repack::{
    from_tree::{Pack, pack},
    is_tar_zst,
    layer::{Compressed, LayerPack, Stamp, pack_files, pack_layer},
};
use sha2::{Digest as _, Sha256};
use std::{
    ffi::OsString,
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    num::NonZero,
    path::{Path, PathBuf},
    sync::Arc,
};
pub(crate) use tar::{Position, positions};

/// Size of one read of a layer, in bytes.
const LAYER_READ: usize = 256 * 1024;

/// What the file is called, for a moment, that a whole archive is kept in.
const SPOOL: &str = ".spool";

/// Threads per archive at most.
const MAX_THREADS: usize = 8;

/// What to do with content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placing {
    /// Keep it as a file.
    Keep,
    /// Extract it if it is an archive, else keep it.
    Extract,
    /// Make a `.tar.zst` of it.
    Repack(Repack),
}

impl Placing {
    /// Returns what to do with something that is to be extracted if it is an archive, or is not.
    #[must_use]
    pub fn of(extract: bool) -> Self {
        if extract { Self::Extract } else { Self::Keep }
    }
}

/// What archive content was that was unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpacked {
    /// A tar, uncompressed or by gzip, bzip2, xz or Zstandard: what Docker unpacks, too.
    Tar,
    /// Any other.
    Other,
}

/// What became of content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// What was odd about it.
    pub(crate) warnings: Vec<String>,
    /// What it was, if it was unpacked.
    pub(crate) unpacked: Option<Unpacked>,
}

/// Where content goes and how.
pub(crate) struct Job {
    /// An empty directory.
    pub(crate) directory: PathBuf,
    /// The name of the file, where the content is kept as one.
    pub(crate) file_name: OsString,
    /// What to do with it.
    pub(crate) placing: Placing,
    /// What an archive may be at most.
    pub(crate) limits: Limits,
}

/// Takes content to its end and places it in the job's directory.
///
/// # Errors
/// [`crate::Error::Archive`] for what is wrong with the content, [`crate::Error::Fs`] for the disk. Content that ends
/// early because its transfer failed ends in an archive error; the transfer knows better.
pub(crate) fn place(source: BlockingReader, job: &Job) -> Result<Outcome> {
    let mut source = Rewindable::new(source);
    let format = match &job.placing {
        Placing::Keep => Format::Other,
        Placing::Extract | Placing::Repack(_) => {
            sniff(&mut source, &job.file_name, &job.limits).map_err(tar::read_error)?
        }
    };
    if let Placing::Repack(repack) = &job.placing {
        repack::repack(source, format, repack, job)?;
        return Ok(Outcome {
            warnings: Vec::new(),
            unpacked: None,
        });
    }
    let (warnings, unpacked) = match format {
        Format::Other => {
            save(&mut source, &job.directory.join(&job.file_name))?;
            (Vec::new(), None)
        }
        Format::Tar(compression) => {
            let kind = match compression {
                Compression::Lzma => Unpacked::Other,
                _ => Unpacked::Tar,
            };
            (extract_tar(source, compression, job)?, Some(kind))
        }
        Format::Zip => (extract_zip(&mut source, job)?, Some(Unpacked::Other)),
    };
    Ok(Outcome { warnings, unpacked })
}

fn extract_tar(source: Rewindable, compression: Compression, job: &Job) -> Result<Vec<String>> {
    let threads = u32::try_from(cores()).unwrap_or(1);
    let decoded =
        decode::parallel(compression, source, threads, &job.limits).map_err(tar::read_error)?;
    std::thread::scope(|scope| {
        tar::extract(ReadAhead::start(scope, decoded), compression, job, cores())
    })
}

fn extract_zip(source: &mut Rewindable, job: &Job) -> Result<Vec<String>> {
    std::thread::scope(|scope| {
        let path = job.directory.join(SPOOL);
        let file = Arc::new(create_spool(&path)?);
        let early = zip::Early::start(scope, Arc::clone(&file), &job.directory, &job.limits);
        copy(source, &file, &path, |length| early.arrived(length))?;
        #[cfg(feature = "fuzzing")]
        let early = early.exhaust();
        let archive = zip::Archive::open(file, &job.limits)?;
        zip::extract(&archive, early, job, cores())
    })
}

/// Puts a layer of an image on top of what is in a directory: what it has replaces what is there, and what it marks as
/// removed is removed. Takes what it used off the limits, so that all layers of one result have one budget. Returns the
/// digest of the uncompressed layer.
///
/// # Errors
/// [`crate::Error::Archive`] and [`crate::Error::Fs`]; or what the reader failed with. Then the directory holds nothing
/// that may be used.
pub(crate) fn apply_layer(
    layer: impl Read + Send + 'static,
    packing: LayerPacking,
    directory: &Path,
    limits: &mut Limits,
) -> Result<Sha256Digest> {
    let compression = match packing {
        LayerPacking::None => Compression::None,
        LayerPacking::Gzip => Compression::Gzip,
        LayerPacking::Zstd => Compression::Zstd,
    };
    let threads = u32::try_from(cores()).unwrap_or(1);
    let layer = BufReader::with_capacity(LAYER_READ, layer);
    let decoded = decode::parallel(compression, layer, threads, limits).map_err(tar::read_error)?;
    let (hasher, bytes, members) = std::thread::scope(|scope| {
        // Hashed where it is extracted: decoding takes the longer part of the time.
        let mut content = Hashed {
            inner: ReadAhead::start(scope, decoded),
            hasher: Sha256::new(),
            bytes: 0,
        };
        let members = tar::apply(&mut content, compression, directory, limits)?;
        Ok::<_, crate::Error>((content.hasher, content.bytes, members))
    })?;
    limits.spend(bytes, members);
    Ok(Sha256Digest::from_bytes(hasher.finalize().into()))
}

/// Permission bits that layers give and get: what is left by a umask of 022, which is what extraction leaves anybody but
/// root. Where a layer comes from, nobody but its owner may write to what is in it.
pub(crate) const LAYER_MODES: u32 = 0o755;

/// How a layer is compressed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LayerPacking {
    None,
    Gzip,
    Zstd,
}

/// Hashes and counts what is read through it.
struct Hashed<R> {
    inner: R,
    hasher: Sha256,
    bytes: u64,
}

impl<R> Hashed<R> {
    fn take(hasher: &mut Sha256, count: &mut u64, bytes: &[u8]) {
        hasher.update(bytes);
        *count += bytes.len() as u64;
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        Self::take(&mut self.hasher, &mut self.bytes, &buffer[..length]);
        Ok(length)
    }
}

impl<R: BufRead> BufRead for Hashed<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, length: usize) {
        if length == 0 {
            return;
        }
        // What was filled is there; only that can be consumed.
        if let Ok(filled) = self.inner.fill_buf() {
            Self::take(&mut self.hasher, &mut self.bytes, &filled[..length]);
        }
        self.inner.consume(length);
    }
}

impl<R: TakeBytes> TakeBytes for Hashed<R> {
    fn take_bytes(&mut self, length: usize) -> io::Result<Bytes> {
        let taken = self.inner.take_bytes(length)?;
        Self::take(&mut self.hasher, &mut self.bytes, &taken);
        Ok(taken)
    }
}

/// Writes the content to a new file.
fn save(source: &mut Rewindable, path: &Path) -> Result<()> {
    copy(source, &fs::create_new(path)?, path, |_| ())
}

/// Writes the content to a file without a name, which is gone when it is closed.
fn spool(source: &mut Rewindable, directory: &Path) -> Result<File> {
    let path = directory.join(SPOOL);
    let file = create_spool(&path)?;
    copy(source, &file, &path, |_| ())?;
    Ok(file)
}

fn create_spool(path: &Path) -> Result<File> {
    let file = fs::create_new(path)?;
    fs::remove_file(path)?;
    Ok(file)
}

/// Writes the content to a file, and tells how many bytes of it each time that there are more.
fn copy(
    source: &mut Rewindable,
    mut file: &File,
    path: &Path,
    mut arrived: impl FnMut(usize),
) -> Result<()> {
    while let Some(chunk) = source.next_chunk().map_err(tar::read_error)? {
        file.write_all(&chunk).context("write", path)?;
        arrived(chunk.len());
    }
    Ok(())
}

/// Returns how many threads work on one archive: as many as can at once, but several archives are in work, and each
/// thread has buffers.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism()
        .map_or(1, NonZero::get)
        .min(MAX_THREADS)
}
