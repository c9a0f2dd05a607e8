//! The file system: `std::fs` with a verb and a path in every error, directories held by descriptor, the confined tree
//! an archive is written into, staging and publishing.
//!
//! - [`Dir`]: a directory by descriptor; every operation names one component in it and follows no link.
//! - [`Tree`]: a directory that members of an archive are created in; nothing gets out of it.
//! - [`Staging`]: the private directory of a run, removed whatever happens.
//! - [`Outgoing`]: a file that is read only as long as it stays what it was.
//! - [`copy_tree`]: staged content once more.
//! - [`merge()`]: staged content moved to where it belongs.
//! - [`Lock`]: who may change a store at the same time as others.

mod child_files;
mod copy;
mod dir;
mod files;
mod lock;
mod merge;
mod outgoing;
mod owner;
mod staging;
mod tree;
mod write_behind;

pub(crate) use child_files::{Content, NewFile};
pub(crate) use copy::{Print, copy_tree, link_tree};
pub(crate) use dir::{Dir, set_umask, umask};
pub(crate) use files::{
    are_same, copy, files_below, hard_link, make_parent, remove_if_there, rename, seal, size_of,
    take,
};
pub(crate) use lock::Lock;
pub(crate) use merge::{descend, merge};
pub use outgoing::Outgoing;
pub(crate) use outgoing::Reading;
pub use owner::Owner;
pub use staging::Staging;
pub(crate) use tree::{Attributes, Mtime, Tree};
pub(crate) use write_behind::{SMALL, WriteBehind};

use crate::error::{Error, Result};
use rustix::fs::{Mode, OFlags};
use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Adds verb and object to an I/O result.
pub(crate) trait Context<T> {
    /// Makes the error read "cannot `action` `path`".
    fn context(self, action: &'static str, path: impl AsRef<Path>) -> Result<T>;

    /// The same for places where making the path would cost something each time that nothing fails.
    fn context_with(self, action: &'static str, path: impl FnOnce() -> PathBuf) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, action: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.context_with(action, || path.as_ref().to_owned())
    }

    fn context_with(self, action: &'static str, path: impl FnOnce() -> PathBuf) -> Result<T> {
        self.map_err(|source| Error::Fs {
            action,
            path: path(),
            source: source.into(),
        })
    }
}

/// Reads a whole text file.
#[expect(clippy::disallowed_methods, reason = "this is the room for them")]
pub(crate) fn read_to_string(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).context("read", path)
}

/// Reads a whole file.
#[expect(clippy::disallowed_methods, reason = "this is the room for them")]
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).context("read", path)
}

/// Returns the names in a directory, sorted.
#[expect(clippy::disallowed_methods, reason = "this is the room for them")]
pub(crate) fn list(path: &Path) -> Result<Vec<OsString>> {
    let shown = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let entries = std::fs::read_dir(shown).context("list", shown)?;
    let names = entries.map(|entry| Ok(entry.context("list", shown)?.file_name()));
    let mut names: Vec<_> = names.collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}

/// Lets everybody read and write what is there, if something is.
#[expect(clippy::disallowed_methods, reason = "this is the room for them")]
pub(crate) fn allow_everybody(path: &Path) -> Result<()> {
    let everybody = 0o666;
    let mut permissions = match std::fs::metadata(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.context("look at", path)?.permissions(),
    };
    let mode = permissions.mode();
    if mode & everybody == everybody {
        return Ok(());
    }
    permissions.set_mode(mode | everybody);
    std::fs::set_permissions(path, permissions).context("set permissions of", path)
}

/// Opens a file for an asynchronous reader.
#[expect(clippy::disallowed_methods, reason = "this is the room for them")]
pub(crate) async fn open_async(path: &Path) -> Result<tokio::fs::File> {
    tokio::fs::File::open(path).await.context("open", path)
}

/// Opens a file to read it.
#[expect(clippy::disallowed_methods, reason = "this is the room for them")]
pub(crate) fn open(path: &Path) -> Result<File> {
    File::open(path).context("open", path)
}

/// Creates a file that must not exist yet and can be read back.
pub(crate) fn create_new(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o666)
        .open(path)
        .context("create", path)
}

/// Creates a file without a name on the file system of a directory; [`Tree::adopt`] can give it one. There is none where
/// the file system has no such files.
pub(crate) fn create_unnamed(directory: &Path) -> Option<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR);
    file.ok().map(File::from)
}

/// Creates a file that must not exist yet and that nobody else may read.
pub(crate) fn create_private(path: &Path) -> Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .context("create", path)
}

/// Writes a whole file, with its parent directories.
#[expect(clippy::disallowed_methods, reason = "this is the room for them")]
pub(crate) fn write(path: &Path, content: &str) -> Result<()> {
    create_missing(path.parent().unwrap_or(Path::new("")))?;
    std::fs::write(path, content).context("write", path)
}

/// Replaces a file by one with other content, at once: whoever opens it gets all of the one or of the other. It keeps
/// its permissions and, where that is allowed, its owner; of a link, the target is replaced.
#[expect(clippy::disallowed_methods, reason = "this is the room for them")]
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let path = std::fs::canonicalize(path).context("find", path)?;
    let old = std::fs::metadata(&path).context("look at", &path)?;
    let suffix: String = std::iter::repeat_with(fastrand::alphanumeric)
        .take(6)
        .collect();
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{suffix}"));
    let new = path.with_file_name(name);
    let mut file = create_new(&new)?;
    let written = file.write_all(content).context("write", &new);
    let replaced = written.and_then(|()| {
        // Fails for others' files, which are then the writer's.
        let _ = std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()));
        file.set_permissions(old.permissions())
            .context("set the permissions of", &new)?;
        file.sync_all().context("write", &new)?;
        std::fs::rename(&new, &path).context("replace", &path)
    });
    if replaced.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    replaced
}

/// Removes one file.
#[expect(clippy::disallowed_methods, reason = "this is the room for them")]
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    std::fs::remove_file(path).context("remove", path)
}

/// Returns whether there is a directory, and not just a link to one.
#[expect(clippy::disallowed_methods, reason = "this is the room for them")]
pub(crate) fn is_directory(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

/// Returns whether a path leads to a directory.
#[expect(clippy::disallowed_methods, reason = "this is the room for them")]
pub(crate) fn leads_to_directory(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_dir())
}

/// Creates one directory that must not exist yet.
#[expect(clippy::disallowed_methods, reason = "this is the room for them")]
pub(crate) fn create_dir(path: &Path) -> Result<()> {
    std::fs::create_dir(path).context("create directory", path)
}

/// Creates a directory with its parents and returns those that were missing, outermost first.
#[expect(clippy::disallowed_methods, reason = "this is the room for them")]
pub(crate) fn create_missing(path: &Path) -> Result<Vec<PathBuf>> {
    let mut missing = Vec::new();
    let mut probe = Some(path).filter(|path| !path.as_os_str().is_empty());
    while let Some(path) = probe {
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => break,
            Ok(_) => {
                return Err(Error::Fs {
                    action: "create directory",
                    path: path.to_owned(),
                    source: io::ErrorKind::NotADirectory.into(),
                });
            }
            Err(err) if err.kind() == io::ErrorKind::NotFound => missing.push(path.to_owned()),
            Err(err) => return Err(err).context("look at", path),
        }
        probe = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
    }
    missing.reverse();
    std::fs::create_dir_all(path).context("create directory", path)?;
    Ok(missing)
}

/// Removes directories that are empty, innermost first; the others stay.
#[expect(clippy::disallowed_methods, reason = "this is the room for them")]
pub(crate) fn remove_empty(directories: &[PathBuf]) {
    for path in directories.iter().rev() {
        if std::fs::remove_dir(path).is_err() {
            return;
        }
    }
}

/// Removes a whole tree, also one whose directories lack the permissions for it.
#[expect(clippy::disallowed_methods, reason = "this is the room for them")]
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(err) if err.kind() == io::ErrorKind::PermissionDenied => {
            Dir::open(path)?.make_removable();
            std::fs::remove_dir_all(path).context("remove", path)
        }
        removed => removed.context("remove", path),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the disk directly")]
mod tests {
    use super::allow_everybody;
    use std::{
        fs::{self, Permissions},
        os::unix::fs::PermissionsExt,
    };

    #[test]
    fn everybody_is_allowed_what_is_there_and_keeps_what_they_had() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("kvm");
        allow_everybody(&path).unwrap();
        assert!(!path.exists());
        fs::write(&path, "").unwrap();
        for (before, after) in [(0o600, 0o666), (0o710, 0o776), (0o666, 0o666)] {
            fs::set_permissions(&path, Permissions::from_mode(before)).unwrap();
            allow_everybody(&path).unwrap();
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, after);
        }
    }
}
