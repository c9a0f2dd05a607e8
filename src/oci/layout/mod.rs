//! [`Layout`]: an OCI image layout, a directory or a tar of one.
//!
//! ```text
//! oci-layout          {"imageLayoutVersion":"1.0.0"}
//! index.json          what is tagged
//! blobs/sha256/HEX    content by its digest
//! ```
//!
//! A blob gets its name when it is complete, and nothing refers to a blob before it is there: who is killed leaves blobs
//! that nobody refers to. What is read is compared with the descriptor that led to it, whoever wrote it.

mod blob;
mod members;

use super::{Descriptor, Digest, Index, Manifest, media_type};
use crate::{
    archive,
    error::{Error, Result},
    fs::{self, Context, Outgoing, Staging},
};
pub use blob::{BlobReader, NewBlob, StagedBlob};
use members::Members;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

/// What tags an entry of the index.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The name of the file that makes a directory a layout, and what it says.
const MARK: &str = "oci-layout";
const VERSION: &str = "1.0.0";

/// The name of the index.
const INDEX: &str = "index.json";

/// Bytes of an index or a manifest, at most: what registries take.
pub const MAX_MANIFEST: u64 = 4 << 20;

/// Bytes of an image's configuration, at most. An inline cache is in it, for which nobody sets a limit.
pub const MAX_CONFIG: u64 = 32 << 20;

/// An image layout. It can be used by several threads.
#[derive(Debug)]
pub struct Layout {
    path: PathBuf,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Directory {
        /// Where blobs are written, if any are.
        staging: Option<Arc<Staging>>,
    },
    Tar(Members),
}

impl Layout {
    /// Opens a layout to read it: a directory, or an uncompressed tar.
    ///
    /// # Errors
    /// [`Error::Usage`] for what is no layout, [`Error::Fs`], [`Error::Archive`].
    pub fn open(path: &Path) -> Result<Self> {
        let place = if fs::leads_to_directory(path) {
            Place::Directory { staging: None }
        } else {
            Place::Tar(Members::of(path)?)
        };
        let layout = Self {
            path: path.to_owned(),
            place,
        };
        layout.check_version()?;
        Ok(layout)
    }

    /// Opens a directory to write to it. It becomes a layout, if it is missing or empty.
    ///
    /// # Errors
    /// [`Error::Usage`] for a directory that holds something else, [`Error::Fs`].
    pub fn create(path: &Path) -> Result<Self> {
        let mut layout = Self {
            path: path.to_owned(),
            place: Place::Directory { staging: None },
        };
        let is_there = fs::leads_to_directory(path);
        if is_there && fs::size_of(&path.join(MARK))?.is_some() {
            layout.check_version()?;
        } else if is_there && !layout.holds_nothing()? {
            return Err(Error::Usage {
                what: format!("`{}` is no image layout, but not empty", path.display()),
                hint: Some("name a directory that is empty or does not exist yet".into()),
            });
        }
        let staging = Arc::new(Staging::inside(path)?);
        layout.place = Place::Directory {
            staging: Some(staging),
        };
        Ok(layout)
    }

    /// Begins a layout in a staging directory, which lives as long as anybody writes to the layout.
    ///
    /// # Errors
    /// [`Error::Fs`].
    pub fn create_within(outer: &Arc<Staging>) -> Result<Self> {
        let path = outer.fresh()?;
        let staging = Some(Arc::new(Staging::within(outer, &path)?));
        Ok(Self {
            path,
            place: Place::Directory { staging },
        })
    }

    /// Left-overs of killed runs are nothing.
    fn holds_nothing(&self) -> Result<bool> {
        let names = fs::list(&self.path)?;
        let is_ours = |name: &std::ffi::OsString| {
            let name = name.to_string_lossy();
            name.starts_with(".fetch-content.") || name == "blobs"
        };
        Ok(names.iter().all(is_ours))
    }

    /// Returns where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn check_version(&self) -> Result<()> {
        let no_layout = |problem: String| Error::Usage {
            what: format!("`{}` is no image layout: {problem}", self.path.display()),
            hint: None,
        };
        let mark = self.file(MARK, MAX_MANIFEST);
        let mark = mark.map_err(|err| no_layout(crate::error::chain(&err)))?;
        let mark: serde_json::Value = serde_json::from_slice(&mark)
            .map_err(|err| no_layout(format!("`{MARK}` is not JSON: {err}")))?;
        match mark["imageLayoutVersion"].as_str() {
            Some(VERSION) => Ok(()),
            Some(version) => Err(no_layout(format!(
                "its version is `{}`, expected {VERSION}",
                version.escape_debug()
            ))),
            None => Err(no_layout(format!("`{MARK}` tells no version"))),
        }
    }

    /// Opens a file of the layout, which is not a blob or not verified, and returns its size in bytes.
    fn open_file(&self, name: &str) -> Result<(Box<dyn Read + Send>, u64)> {
        match &self.place {
            Place::Directory { .. } => {
                let path = self.path.join(name);
                let file = fs::open(&path)?;
                let found = file.metadata().context("look at", &path)?;
                Ok((Box::new(file), found.len()))
            }
            Place::Tar(members) => members.open(name),
        }
    }

    /// Reads a small file.
    fn file(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let (file, _) = self.open_file(name)?;
        let mut content = Vec::new();
        file.take(limit + 1)
            .read_to_end(&mut content)
            .context("read", self.path.join(name))?;
        if content.len() as u64 > limit {
            return Err(self.damaged(name, &format!("has more than {limit} bytes")));
        }
        Ok(content)
    }

    fn damaged(&self, name: &str, problem: &str) -> Error {
        Error::Damaged {
            place: format!("{name} of `{}`", self.path.display()),
            problem: problem.to_owned(),
        }
    }
}

/// Reading.
impl Layout {
    /// Returns what is tagged. A layout under construction has nothing.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Fs`].
    pub fn index(&self) -> Result<Index> {
        match self.file(INDEX, MAX_MANIFEST) {
            Ok(json) => self.parse(INDEX, &json),
            Err(err) if err.is_absence() => Ok(Index::new(Vec::new())),
            Err(err) => Err(err),
        }
    }

    /// Returns the entry of the index with a tag; without one, the only entry, or that tagged `latest`.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is none, with those that are there; what [`Layout::index`] has.
    pub fn find(&self, tag: Option<&str>) -> Result<Descriptor> {
        let entries = self.index()?.manifests;
        let tagged = |tag: &str| {
            let tagged = |entry: &&Descriptor| tag_of(entry) == Some(tag);
            entries.iter().rfind(tagged)
        };
        let found = match (tag, &entries[..]) {
            (None, [only]) => Some(only),
            (None, _) => tagged("latest"),
            (Some(tag), _) => tagged(tag),
        };
        found.cloned().ok_or_else(|| {
            let tags: Vec<&str> = entries.iter().filter_map(tag_of).collect();
            Error::Usage {
                what: format!(
                    "`{}` has nothing with the tag `{}`",
                    self.path.display(),
                    tag.unwrap_or("latest").escape_debug()
                ),
                hint: Some(match (&tags[..], &entries[..]) {
                    (_, []) => "its index is empty".into(),
                    ([], _) => "nothing in its index has a tag".into(),
                    (tags, _) => format!("its tags are {}", tags.join(", ").escape_debug()),
                }),
            }
        })
    }

    /// Opens a blob. Its reader fails where size or digest are not those of the descriptor.
    ///
    /// # Errors
    /// [`Error::Fs`], [`Error::Damaged`] if the size is wrong already.
    pub fn blob(&self, descriptor: &Descriptor) -> Result<BlobReader> {
        let name = blob_name(&descriptor.digest);
        let (file, size) = self.open_file(&name)?;
        if size != descriptor.size {
            let problem = format!("has {size} bytes, expected {}", descriptor.size);
            return Err(self.damaged(&name, &problem));
        }
        let shown = format!("{name} of `{}`", self.path.display());
        Ok(BlobReader::new(file, descriptor, shown))
    }

    /// Reads a blob that is small, and verified.
    ///
    /// # Errors
    /// [`Error::Damaged`], also for one that is larger than `limit`; [`Error::Fs`].
    pub fn read(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>> {
        let name = blob_name(&descriptor.digest);
        if descriptor.size > limit {
            let problem = format!(
                "has {} bytes, and may have {limit} at most",
                descriptor.size
            );
            return Err(self.damaged(&name, &problem));
        }
        let mut content = Vec::new();
        let mut reader = self.blob(descriptor)?;
        reader
            .read_to_end(&mut content)
            .map_err(|err| blob::failure(err, &self.path.join(&name)))?;
        Ok(content)
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// What [`Layout::read`] has.
    pub fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest> {
        self.parse_blob(descriptor)
    }

    /// Reads an index that is a blob.
    ///
    /// # Errors
    /// What [`Layout::read`] has.
    pub fn inner_index(&self, descriptor: &Descriptor) -> Result<Index> {
        self.parse_blob(descriptor)
    }

    fn parse_blob<T: DeserializeOwned>(&self, descriptor: &Descriptor) -> Result<T> {
        let json = self.read(descriptor, MAX_MANIFEST)?;
        self.parse(&blob_name(&descriptor.digest), &json)
    }

    fn parse<T: DeserializeOwned>(&self, name: &str, json: &[u8]) -> Result<T> {
        serde_json::from_slice(json)
            .map_err(|err| self.damaged(name, &format!("cannot be read: {err}")))
    }

    /// Returns whether a blob is there and is what it should be. It is read for that.
    ///
    /// # Errors
    /// [`Error::Fs`].
    pub fn holds(&self, descriptor: &Descriptor) -> Result<bool> {
        let mut reader = match self.blob(descriptor) {
            Ok(reader) => reader,
            Err(Error::Damaged { .. }) => return Ok(false),
            Err(err) if err.is_absence() => return Ok(false),
            Err(err) => return Err(err),
        };
        match std::io::copy(&mut reader, &mut std::io::sink()) {
            Ok(_) => Ok(true),
            Err(err) => match blob::failure(err, &self.blob_path(&descriptor.digest)) {
                Error::Damaged { .. } => Ok(false),
                err => Err(err),
            },
        }
    }

    /// Returns a blob as something to be sent, which is not read yet.
    ///
    /// # Errors
    /// [`Error::Fs`], [`Error::Damaged`] if the size is wrong already.
    pub(crate) fn outgoing(&self, descriptor: &Descriptor) -> Result<Outgoing> {
        let name = blob_name(&descriptor.digest);
        let file = match &self.place {
            Place::Directory { .. } => Outgoing::at(&self.path.join(&name))?,
            Place::Tar(members) => members.outgoing(&name)?,
        };
        if file.size() != descriptor.size {
            let problem = format!("has {} bytes, expected {}", file.size(), descriptor.size);
            return Err(self.damaged(&name, &problem));
        }
        Ok(file)
    }

    /// Returns where a blob is or would be, in a directory.
    #[must_use]
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path.join(blob_name(digest))
    }
}

/// Writing.
impl Layout {
    /// Returns where work in progress lives, on the file system of the layout.
    ///
    /// # Errors
    /// [`Error::Usage`] if the layout was not opened to be written.
    pub fn staging(&self) -> Result<&Arc<Staging>> {
        match &self.place {
            Place::Directory {
                staging: Some(staging),
            } => Ok(staging),
            _ => Err(Error::usage(format!(
                "`{}` was not opened to be written",
                self.path.display()
            ))),
        }
    }

    /// Returns the path of a new, empty directory on the same file system, which goes with the layout.
    ///
    /// # Errors
    /// [`Error::Fs`].
    pub fn scratch(&self) -> Result<PathBuf> {
        self.staging()?.fresh()
    }

    /// Begins a blob.
    ///
    /// # Errors
    /// [`Error::Fs`].
    pub fn new_blob(&self) -> Result<NewBlob> {
        NewBlob::create(Arc::clone(self.staging()?), self.path.join(BLOBS))
    }

    /// Takes over a file as a blob. It must be on the same file system, as [`Layout::scratch`] is, and it must have been
    /// verified.
    ///
    /// # Errors
    /// [`Error::Fs`].
    pub fn adopt(&self, file: &Path, digest: &Digest) -> Result<()> {
        blob::publish(file, self.staging()?, &self.path.join(BLOBS), digest)
    }

    /// Writes a small blob.
    ///
    /// # Errors
    /// [`Error::Fs`].
    pub fn put(&self, media_type: &str, content: &[u8]) -> Result<Descriptor> {
        let mut blob = self.new_blob()?;
        blob.write_all(content).context("write", &self.path)?;
        let staged = blob.finish()?;
        let descriptor = Descriptor::new(media_type, staged.digest, staged.size);
        self.adopt(&staged.path, &staged.digest)?;
        Ok(descriptor)
    }

    /// Copies a blob of another layout, verified.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Fs`].
    pub fn copy_blob(&self, from: &Layout, descriptor: &Descriptor) -> Result<()> {
        if self.holds(descriptor)? {
            return Ok(());
        }
        let (mut blob, mut new) = (from.blob(descriptor)?, self.new_blob()?);
        std::io::copy(&mut blob, &mut new)
            .map_err(|err| blob::failure(err, &from.blob_path(&descriptor.digest)))?;
        new.finish_as(descriptor)
    }

    /// Writes the layout to a new file, a tar: the same bytes for the same blobs.
    ///
    /// # Errors
    /// [`Error::Fs`].
    pub fn pack(&self, file: &Path) -> Result<()> {
        let blobs = self.path.join(BLOBS);
        let names = fs::list(&blobs)?.into_iter();
        let names = names.map(|name| format!("{BLOBS}/{}", name.to_string_lossy()));
        let names: Vec<String> = [INDEX.to_owned(), MARK.to_owned()]
            .into_iter()
            .chain(names)
            .collect();
        let paths: Vec<PathBuf> = names.iter().map(|name| self.path.join(name)).collect();
        let files: Vec<(&str, &Path)> = names
            .iter()
            .zip(&paths)
            .map(|(name, path)| (name.as_str(), path.as_path()))
            .collect();
        archive::pack_files(&files, fs::create_new(file)?, file)
    }

    /// Makes an entry of the index: in place of what had its tag, and at its end. All its blobs must be there.
    ///
    /// Two writers at the same time are possible, but one may undo the other's entry, as with every other tool.
    ///
    /// # Errors
    /// [`Error::Fs`], [`Error::Damaged`].
    pub fn tag(&self, tag: &str, descriptor: Descriptor) -> Result<()> {
        let descriptor = descriptor.annotated(REF_NAME, tag);
        let mut index = self.index()?;
        index.media_type = Some(media_type::INDEX.to_owned());
        index
            .manifests
            .retain(|entry| tag_of(entry) != Some(tag) && *entry != descriptor);
        index.manifests.push(descriptor);
        let mark = json!({"imageLayoutVersion": VERSION});
        self.replace(MARK, mark.to_string().as_bytes())?;
        let index = serde_json::to_vec(&index).map_err(|err| Error::Damaged {
            place: INDEX.to_owned(),
            problem: err.to_string(),
        })?;
        self.replace(INDEX, &index)
    }

    fn replace(&self, name: &str, content: &[u8]) -> Result<()> {
        let staging = self.staging()?;
        let new = staging.fresh()?.join(name);
        let mut file = fs::create_new(&new)?;
        file.write_all(content).context("write", &new)?;
        staging.keep_parent();
        fs::rename(&new, &self.path.join(name))
    }
}

/// The directory of blobs.
const BLOBS: &str = "blobs/sha256";

fn blob_name(digest: &Digest) -> String {
    format!("{BLOBS}/{}", digest.hex())
}

/// Returns the tag of an entry of an index.
#[must_use]
pub fn tag_of(entry: &Descriptor) -> Option<&str> {
    entry.annotations.get(REF_NAME).map(String::as_str)
}

#[cfg(test)]
mod tests;
