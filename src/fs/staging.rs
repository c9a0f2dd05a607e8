//! [`Staging`]: the private directory of a run. What a run is working on lives here, on the file system of the
//! destination, until it is verified and moved out.

use crate::{
    error::Result,
    fs::{Context, Dir, create_dir, create_missing, dir, remove_empty, remove_tree},
};
use rustix::{fs::Mode, io::Errno};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

/// What the names of staging directories begin with.
const PREFIX: &str = ".fetch-content.";

/// A directory `.fetch-content.XXXXXX` (mode 0700) below `parent`, removed with all its content on drop.
///
/// It is locked while it lives (`flock` on the directory itself), so that a later run can tell the left-overs of a
/// killed one from the work of a neighbour. `parent` is created if missing, and removed again on drop unless
/// [`Staging::keep_parent`] said that something was published there.
///
/// Jobs hold it by `Arc`: the last one to end, in whatever way, removes it.
#[derive(Debug)]
pub struct Staging {
    dir: Dir,
    parent: Dir,
    created: Vec<PathBuf>,
    keep_parent: AtomicBool,
    next: AtomicU32,
    /// Another one that this is in, which lives as long.
    within: Option<Arc<Staging>>,
}

impl Staging {
    /// Makes a staging directory in a directory of another one, which is not removed before this.
    ///
    /// # Errors
    /// As [`Staging::inside`].
    pub fn within(outer: &Arc<Self>, parent: &Path) -> Result<Self> {
        let mut staging = Self::inside(parent)?;
        staging.within = Some(Arc::clone(outer));
        Ok(staging)
    }

    /// Makes a staging directory in `parent` and removes those that killed runs left there.
    ///
    /// # Errors
    /// [`crate::Error::Fs`] when `parent` cannot be created or written.
    pub fn inside(parent: &Path) -> Result<Self> {
        let created = create_missing(parent)?;
        let parent = match Dir::open(if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        }) {
            Ok(parent) => parent,
            Err(err) => {
                remove_empty(&created);
                return Err(err);
            }
        };
        sweep(&parent);
        match Self::make(&parent) {
            Ok(dir) => Ok(Self {
                dir,
                parent,
                created,
                keep_parent: AtomicBool::new(false),
                next: AtomicU32::new(0),
                within: None,
            }),
            Err(err) => {
                remove_empty(&created);
                Err(err)
            }
        }
    }

    fn make(parent: &Dir) -> Result<Dir> {
        loop {
            let suffix: String = std::iter::repeat_with(fastrand::alphanumeric)
                .take(6)
                .collect();
            let name = format!("{PREFIX}{suffix}");
            match rustix::fs::mkdirat(parent, &name, Mode::RWXU) {
                Ok(()) => {}
                Err(Errno::EXIST) => continue,
                Err(err) => return Err(err).context("create directory", parent.path().join(name)),
            }
            // A neighbour that sweeps between the two calls takes the directory for a left-over: then try another.
            let dir = match parent.open_child(OsStr::new(&name)) {
                Err(crate::Error::Fs { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound =>
                {
                    continue;
                }
                opened => opened?,
            };
            if dir.try_lock()? && dir.is_linked()? {
                return Ok(dir);
            }
        }
    }

    /// Returns the directory that holds the staging directory.
    pub(crate) fn parent(&self) -> &Dir {
        &self.parent
    }

    /// Returns the path of a new, empty directory in here, for one attempt at one thing.
    ///
    /// # Errors
    /// [`crate::Error::Fs`] when the disk refuses.
    pub fn fresh(&self) -> Result<PathBuf> {
        let path = self
            .dir
            .path()
            .join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        create_dir(&path)?;
        Ok(path)
    }

    /// Moves a file from a directory in here to the parent, replacing a file or link that has its name there.
    ///
    /// # Errors
    /// [`crate::Error::Fs`], also when a directory has its name.
    pub(crate) fn publish_file(&self, directory: &Path, name: &OsStr) -> Result<()> {
        Dir::open(directory)?.rename_child(name, &self.parent, name)?;
        self.keep_parent();
        Ok(())
    }

    /// Notes that something was published in the parent, which has to stay now.
    pub fn keep_parent(&self) {
        self.keep_parent.store(true, Ordering::Relaxed);
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Nobody can be told; what stays here is swept by the next run.
        let _ = remove_tree(self.dir.path());
        if !*self.keep_parent.get_mut() {
            remove_empty(&self.created);
        }
    }
}

/// Removes what killed runs left in `parent`: staging directories that nobody locks.
fn sweep(parent: &Dir) {
    for name in parent.names().unwrap_or_default() {
        if dir::has_prefix(&name, PREFIX)
            && let Ok(left) = parent.open_child(&name)
            && matches!(left.try_lock(), Ok(true))
        {
            let _ = remove_tree(left.path());
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the disk directly")]
mod tests {
    use super::Staging;
    use std::fs;

    #[test]
    fn created_parents_go_unless_something_was_published() {
        let temp = tempfile::tempdir().unwrap();
        let parent = temp.path().join("a/b");
        drop(Staging::inside(&parent).unwrap());
        assert!(!temp.path().join("a").exists());

        let staging = Staging::inside(&parent).unwrap();
        staging.keep_parent();
        drop(staging);
        assert_eq!(fs::read_dir(&parent).unwrap().count(), 0);
    }

    #[test]
    fn left_overs_are_swept_and_neighbours_are_not() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join(".fetch-content.dead01/0/x")).unwrap();
        let neighbour = Staging::inside(temp.path()).unwrap();
        assert!(!temp.path().join(".fetch-content.dead01").exists());
        let work = neighbour.fresh().unwrap();
        drop(Staging::inside(temp.path()).unwrap());
        assert!(work.exists());
    }

    #[test]
    fn read_only_directories_are_removed_too() {
        use std::os::unix::fs::PermissionsExt;
        let temp = tempfile::tempdir().unwrap();
        let staging = Staging::inside(temp.path()).unwrap();
        let deep = staging.fresh().unwrap().join("ro");
        fs::create_dir_all(deep.join("sub")).unwrap();
        fs::write(deep.join("sub/f"), "x").unwrap();
        for dir in [deep.join("sub"), deep.clone()] {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o500)).unwrap();
        }
        drop(staging);
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
    }
}
