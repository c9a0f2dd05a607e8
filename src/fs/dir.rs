//! [`Dir`]: a directory held by descriptor. Names given to it are single components, and no operation follows a link.

use crate::{error::Result, fs::Context};
use rustix::{
    fs::{self, AtFlags, FileType, Mode, OFlags, Stat},
    io::Errno,
};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
    sync::OnceLock,
};

const OPEN: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// A directory by descriptor, with the path it was reached by for messages.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// Opens a directory by path; links in the path are followed, since its owner named it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let fd = fs::open(path, OPEN, Mode::empty()).context("open", path)?;
        Ok(Self {
            fd,
            path: path.to_owned(),
        })
    }

    /// Returns the path this directory was reached by.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a child that is a directory and not a link to one.
    pub(crate) fn open_child(&self, name: &OsStr) -> Result<Self> {
        let path = self.path.join(name);
        let fd = fs::openat(&self.fd, name, OPEN.union(OFlags::NOFOLLOW), Mode::empty())
            .context("open", &path)?;
        Ok(Self { fd, path })
    }

    /// Opens a child that is a file and not a link to one, to read it.
    pub(crate) fn open_file(&self, name: &OsStr) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let opened = fs::openat(&self.fd, name, flags, Mode::empty());
        Ok(opened.context_with("open", || self.path.join(name))?.into())
    }

    /// Returns where a child leads that is a symbolic link.
    pub(crate) fn read_link(&self, name: &OsStr) -> Result<Vec<u8>> {
        let target = fs::readlinkat(&self.fd, name, Vec::new());
        Ok(target
            .context_with("look at", || self.path.join(name))?
            .into_bytes())
    }

    /// Creates a child directory with the usual permissions.
    pub(crate) fn create_child(&self, name: &OsStr) -> Result<()> {
        fs::mkdirat(&self.fd, name, Mode::from(0o777))
            .context("create directory", self.path.join(name))
    }

    /// Opens this directory once more.
    pub(crate) fn reopen(&self) -> Result<Self> {
        let fd = self.fd.try_clone().context("open", &self.path)?;
        Ok(Self {
            fd,
            path: self.path.clone(),
        })
    }

    /// Returns what kind of file a child is and its permission bits; `None` if there is none.
    pub(crate) fn look(&self, name: &OsStr) -> Result<Option<(FileType, Mode)>> {
        let found = self.stat(name)?;
        Ok(found.map(|stat| {
            (
                FileType::from_raw_mode(stat.st_mode),
                Mode::from_raw_mode(stat.st_mode),
            )
        }))
    }

    /// Returns all about a child; `None` if there is none.
    pub(crate) fn stat(&self, name: &OsStr) -> Result<Option<Stat>> {
        match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(err) => Err(err).context("look at", self.path.join(name)),
        }
    }

    /// Returns the names of all children, in no order.
    pub(crate) fn names(&self) -> Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&self.fd).context("list", &self.path)? {
            let name = entry
                .context("list", &self.path)?
                .file_name()
                .to_bytes()
                .to_vec();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        Ok(names)
    }

    /// Sets the permission bits of the directory itself.
    pub(crate) fn set_own_mode(&self, mode: Mode) -> Result<()> {
        fs::fchmod(&self.fd, mode).context("set permissions of", &self.path)
    }

    /// Sets the permission bits of a child directory.
    pub(crate) fn set_mode(&self, name: &OsStr, mode: Mode) -> Result<()> {
        let path = self.path.join(name);
        let open = |flags| {
            fs::openat(
                &self.fd,
                name,
                OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | flags,
                Mode::empty(),
            )
        };
        match open(OFlags::RDONLY) {
            Ok(child) => fs::fchmod(child, mode).context("set permissions of", path),
            // Not readable to us. A directory a moment ago: only who may write here could have made it a link since.
            Err(Errno::ACCESS) => fs::chmodat(&self.fd, name, mode, AtFlags::empty())
                .context("set permissions of", path),
            Err(err) => Err(err).context("open", path),
        }
    }

    /// Sets the permission bits of a child that is a file. Only for staging, where nobody can make it a link.
    pub(crate) fn set_file_mode(&self, name: &OsStr, mode: Mode) -> Result<()> {
        fs::chmodat(&self.fd, name, mode, AtFlags::empty())
            .context_with("set permissions of", || self.path.join(name))
    }

    /// Looks into a child directory that this user owns, whatever its permissions, which are the same afterwards. Only
    /// for staging.
    pub(crate) fn look_into_child<T>(
        &self,
        name: &OsStr,
        stat: &Stat,
        look: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<T> {
        let mode = Mode::from_raw_mode(stat.st_mode);
        let locked = !mode.contains(Mode::RUSR | Mode::XUSR);
        if locked {
            self.set_mode(name, mode | Mode::RWXU)?;
        }
        let found = look(&self.open_child(name)?)?;
        if locked {
            self.set_mode(name, mode)?;
        }
        Ok(found)
    }

    /// Opens a child that is a file of this user, whatever its permissions, which are the same afterwards. Only for
    /// staging.
    pub(crate) fn open_own_file(&self, name: &OsStr, stat: &Stat) -> Result<File> {
        let mode = Mode::from_raw_mode(stat.st_mode);
        let locked = !mode.contains(Mode::RUSR);
        if locked {
            self.set_file_mode(name, mode | Mode::RUSR)?;
        }
        let file = self.open_file(name)?;
        if locked {
            self.set_file_mode(name, mode)?;
        }
        Ok(file)
    }

    /// Moves a child into another directory under the same name, replacing what a rename can replace.
    pub(crate) fn rename_child(&self, name: &OsStr, to: &Dir, new_name: &OsStr) -> Result<()> {
        fs::renameat(&self.fd, name, &to.fd, new_name).context("move to", to.path.join(new_name))
    }

    /// Removes a child directory that must be empty.
    pub(crate) fn remove_empty_child(&self, name: &OsStr) -> Result<()> {
        fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR).context("replace", self.path.join(name))
    }

    /// Removes a child of any kind with everything in it.
    pub(crate) fn remove_child(&self, name: &OsStr) -> Result<()> {
        match fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => crate::fs::remove_tree(&self.path.join(name)),
            removed => removed.context("remove", self.path.join(name)),
        }
    }

    /// Gives this directory and every one below it the permissions that removing them takes, where possible.
    pub(crate) fn make_removable(&self) {
        let _ = fs::fchmod(&self.fd, Mode::RWXU);
        for name in self.names().unwrap_or_default() {
            if let Ok(Some((FileType::Directory, _))) = self.look(&name) {
                let _ = self.set_mode(&name, Mode::RWXU);
                if let Ok(child) = self.open_child(&name) {
                    child.make_removable();
                }
            }
        }
    }

    /// Takes the exclusive lock that says that somebody lives here; `false` if another process has it.
    pub(crate) fn try_lock(&self) -> Result<bool> {
        match fs::flock(&self.fd, fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(err) => Err(err).context("lock", &self.path),
        }
    }

    /// Returns whether the directory still has a name.
    pub(crate) fn is_linked(&self) -> Result<bool> {
        Ok(fs::fstat(&self.fd).context("look at", &self.path)?.st_nlink > 0)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Returns whether a name starts with `prefix`.
pub(crate) fn has_prefix(name: &OsStr, prefix: &str) -> bool {
    name.as_bytes().starts_with(prefix.as_bytes())
}

static UMASK: OnceLock<Mode> = OnceLock::new();

/// Sets the process's umask, for a run whose results must not depend on that of its user. Only before [`umask`] was asked for.
pub(crate) fn set_umask(mask: Mode) {
    rustix::process::umask(mask);
    let _ = UMASK.set(mask);
}

/// Returns the process's umask. The system only tells it by setting it, so the first call belongs before any thread.
pub(crate) fn umask() -> Mode {
    *UMASK.get_or_init(|| {
        let mask = rustix::process::umask(Mode::from(0o077));
        rustix::process::umask(mask);
        mask
    })
}
