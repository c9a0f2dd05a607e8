//! Small files with fixed names in a directory held by descriptor, where whoever worked in the directory may have put
//! something else in their place: links are not followed, and only regular files are read and written.

use crate::{
    error::Result,
    fs::{Context, Dir, Owner},
};
use rustix::{
    fs::{self, AtFlags, FileType, Mode, OFlags},
    io::Errno,
};
use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
};

/// What was found under a name.
pub(crate) enum Content {
    /// Nothing.
    Absent,
    /// A link, a directory, a device or a named pipe.
    NotAFile,
    /// A regular file with more bytes than were asked for.
    TooLong,
    /// All of a regular file.
    Whole(Vec<u8>),
}

/// What a new file is to be.
pub(crate) struct NewFile<'a> {
    pub(crate) name: &'a str,
    pub(crate) content: &'a [u8],
    pub(crate) mode: Mode,
    /// Whose it is to be, if not that of this process.
    pub(crate) owner: Option<Owner>,
}

impl Dir {
    /// Reads a regular file of at most `limit` bytes.
    pub(crate) fn read_child(&self, name: &str, limit: u64) -> Result<Content> {
        let fd = match self.open_guarded(name, OFlags::RDONLY) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(Content::Absent),
            // A link, and what can be opened only by somebody at the other end.
            Err(Errno::LOOP | Errno::NXIO) => return Ok(Content::NotAFile),
            Err(err) => return Err(err).context_with("open", || self.path().join(name)),
        };
        let stat = fs::fstat(&fd).context_with("look at", || self.path().join(name))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(Content::NotAFile);
        }
        let mut bytes = Vec::new();
        File::from(fd)
            .take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .context_with("read", || self.path().join(name))?;
        Ok(if bytes.len() as u64 > limit {
            Content::TooLong
        } else {
            Content::Whole(bytes)
        })
    }

    /// Appends to a regular file by a single write. The file is created if it is missing.
    pub(crate) fn append_to_child(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = || self.path().join(name);
        let fd = self
            .open_guarded(name, OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE)
            .context_with("open", path)?;
        let stat = fs::fstat(&fd).context_with("look at", path)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL).context_with("append to", path);
        }
        File::from(fd)
            .write_all(bytes)
            .context_with("append to", path)
    }

    /// Writes a new file, in place of one that may be there.
    pub(crate) fn write_child(&self, new: &NewFile<'_>) -> Result<()> {
        let path = || self.path().join(new.name);
        self.remove_file_child(new.name)?;
        let fd = self
            .open_guarded(new.name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)
            .context_with("create", path)?;
        let mut file = File::from(fd);
        file.write_all(new.content).context_with("write", path)?;
        if let Some(owner) = new.owner {
            owner
                .give_file(&file)
                .context_with("change the owner of", path)?;
        }
        fs::fchmod(&file, new.mode).context_with("set permissions of", path)
    }

    /// Removes a file or link, if there is one.
    pub(crate) fn remove_file_child(&self, name: &str) -> Result<()> {
        match fs::unlinkat(self, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(err) => Err(err).context_with("remove", || self.path().join(name)),
        }
    }

    fn open_guarded(&self, name: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        // A named pipe must not make us wait for its other end.
        let guarded = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        fs::openat(self, name, flags | guarded, Mode::from(0o666))
    }
}
