//! Single files: moved, linked, copied, looked at.

use crate::{
    error::{Error, Result},
    fs::{Context, Dir, create_missing},
};
use rustix::{fs::FileType, io::Errno};
use std::{
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Returns the size of a regular file in bytes; `None` if there is none of that name.
#[expect(clippy::disallowed_methods, reason = "this is the room for them")]
pub(crate) fn size_of(path: &Path) -> Result<Option<u64>> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => Ok(Some(found.len())),
        Ok(_) => Ok(None),
        Err(err) if is_absence(&err) => Ok(None),
        Err(err) => Err(err).context("look at", path),
    }
}

/// Returns whether two names are of the same file; not if one of them does not exist.
#[expect(clippy::disallowed_methods, reason = "this is the room for them")]
pub(crate) fn are_same(one: &Path, other: &Path) -> bool {
    let identity = |path| std::fs::metadata(path).map(|found| (found.dev(), found.ino()));
    matches!((identity(one), identity(other)), (Ok(one), Ok(other)) if one == other)
}

/// Moves a file, replacing another one of the new name. Both names are on the same file system.
#[expect(clippy::disallowed_methods, reason = "this is the room for them")]
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).context("move to", to)
}

/// Moves a file, also from another file system.
#[expect(clippy::disallowed_methods, reason = "this is the room for them")]
pub(crate) fn take(from: &Path, to: &Path) -> Result<()> {
    match std::fs::rename(from, to) {
        Err(err) if err.raw_os_error() == Some(Errno::XDEV.raw_os_error()) => {
            copy(from, to)?;
            crate::fs::remove_file(from)
        }
        moved => moved.context("move to", to),
    }
}

/// Copies a file. File systems that can share blocks do so.
#[expect(clippy::disallowed_methods, reason = "this is the room for them")]
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).context("copy to", to).map(|_| ())
}

/// Gives a file another name. There must be none of it yet.
#[expect(clippy::disallowed_methods, reason = "this is the room for them")]
pub(crate) fn hard_link(from: &Path, to: &Path) -> Result<()> {
    std::fs::hard_link(from, to).context("link to", to)
}

/// Writes a file that will not change any more to disk, and makes it read-only.
pub(crate) fn seal(path: &Path) -> Result<()> {
    let file = super::open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o444))
        .context("set permissions of", path)?;
    file.sync_all().context("write", path)
}

/// Removes a file, unless somebody else has already.
#[expect(clippy::disallowed_methods, reason = "this is the room for them")]
pub(crate) fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(err) if is_absence(&err) => Ok(()),
        removed => removed.context("remove", path),
    }
}

/// Returns the paths of all files below a directory, in no order; none if there is no such directory.
pub(crate) fn files_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open = match Dir::open(directory) {
        Ok(dir) => vec![dir],
        Err(Error::Fs { source, .. }) if is_absence(&source) => return Ok(files),
        Err(err) => return Err(err),
    };
    while let Some(dir) = open.pop() {
        for name in dir.names()? {
            match dir.look(&name)? {
                Some((FileType::Directory, _)) => open.push(dir.open_child(&name)?),
                Some(_) => files.push(dir.path().join(&name)),
                // Removed by somebody else just now.
                None => {}
            }
        }
    }
    Ok(files)
}

/// Makes the directory that a file goes into.
pub(crate) fn make_parent(path: &Path) -> Result<()> {
    create_missing(path.parent().unwrap_or(Path::new(""))).map(|_| ())
}

fn is_absence(err: &io::Error) -> bool {
    matches!(
        err.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
