//! [`Owner`]: handing directories and whole trees over to a user, without following a link.

use crate::{
    error::Result,
    fs::{Context, Dir},
};
use rustix::{
    fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid},
    io::Errno,
};
use std::{
    ffi::{OsStr, OsString},
    os::fd::{AsFd, OwnedFd},
};

/// A user and a group by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user's id.
    pub uid: u32,
    /// The group's id.
    pub gid: u32,
}

/// A directory on the way from the root of a tree to where the walk is, and what is still to be done in it.
struct Level {
    directory: (u64, u64),
    children: Vec<OsString>,
}

impl Owner {
    fn ids(self) -> (Option<Uid>, Option<Gid>) {
        (Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
    }

    /// Gives an open file away.
    pub(crate) fn give_file(self, file: impl AsFd) -> rustix::io::Result<()> {
        let (uid, gid) = self.ids();
        fs::fchown(file, uid, gid)
    }

    /// Gives a directory away, but nothing in it.
    pub(crate) fn give(self, dir: &Dir) -> Result<()> {
        self.give_file(dir)
            .context("change the owner of", dir.path())
    }

    /// Gives a directory away, but nothing in it, and lets its owner do everything in it.
    pub(crate) fn give_directory(self, dir: &Dir) -> Result<()> {
        self.give_open_directory(dir)
            .map(|_| ())
            .context("change the owner of", dir.path())
    }

    /// Gives a directory away with everything in it.
    ///
    /// Symbolic links are given away themselves, and what they lead to is not. The tree may be of any depth, which is
    /// why the walk holds one directory open and no path: a task may have made one deeper than a path can be long.
    pub(crate) fn give_tree(self, root: &Dir) -> Result<()> {
        self.walk(root)
            .context("change the owner of everything in", root.path())
    }

    fn walk(self, root: &Dir) -> rustix::io::Result<()> {
        let mut here = open_directory(root, OsStr::new("."))?;
        let directory = identity(&self.give_open_directory(&here)?);
        let mut levels = vec![Level {
            directory,
            children: self.give_children(&here)?,
        }];
        while let Some(level) = levels.last_mut() {
            if let Some(child) = level.children.pop() {
                here = open_directory(&here, &child)?;
                let directory = identity(&self.give_open_directory(&here)?);
                let children = self.give_children(&here)?;
                levels.push(Level {
                    directory,
                    children,
                });
                continue;
            }
            levels.pop();
            if let Some(parent) = levels.last() {
                here = open_directory(&here, OsStr::new(".."))?;
                if identity(&fs::fstat(&here)?) != parent.directory {
                    // Somebody moved a directory meanwhile: then nobody knows where `..` leads.
                    return Err(Errno::STALE);
                }
            }
        }
        Ok(())
    }

    /// Gives away what is in a directory, except for the directories: those are returned.
    fn give_children(self, dir: &OwnedFd) -> rustix::io::Result<Vec<OsString>> {
        let mut directories = Vec::new();
        for entry in fs::Dir::read_from(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                directories.push(std::os::unix::ffi::OsStringExt::from_vec(
                    name.to_bytes().to_vec(),
                ));
            } else {
                // Also where the owner is right already, which clears set-id bits.
                let (uid, gid) = self.ids();
                fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
            }
        }
        Ok(directories)
    }

    /// Gives an open directory away and lets its owner do everything in it; returns what it was before.
    fn give_open_directory(self, dir: impl AsFd) -> rustix::io::Result<Stat> {
        let stat = fs::fstat(&dir)?;
        if (stat.st_uid, stat.st_gid) != (self.uid, self.gid) {
            self.give_file(&dir)?;
        }
        let mode = Mode::from_raw_mode(stat.st_mode);
        if !mode.contains(Mode::RWXU) {
            fs::fchmod(&dir, mode | Mode::RWXU)?;
        }
        Ok(stat)
    }
}

fn open_directory(dir: impl AsFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(dir, name, flags, Mode::empty())
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}
