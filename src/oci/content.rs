//! [`of_tree`]: the hash of what an archive was unpacked to, which tells it from anything else that a layer may have.
//!
//! It is the name that BuildKit gives to a directory with that content (see [`key::content`]): of each file its name,
//! type, permissions and content, or target. Times do not count, hard links are files, and of permissions only what
//! layers have, so that it is the same for root and for others, and for all usual umasks.

use super::key;
use crate::{
    archive::LAYER_MODES,
    digest::Sha256Digest,
    error::Result,
    fs::{Context, Dir, umask},
    oci::Digest,
};
use rustix::fs::{FileType, Stat};
use std::{ffi::OsStr, io, os::unix::ffi::OsStrExt, path::Path};

/// The permissions of the directory itself do not count: it is no part of what was unpacked.
const ROOT: u32 = 0o755;

/// Returns whether hashes here are those that they would be elsewhere: not where the umask takes what layers have.
pub(crate) fn is_comparable() -> bool {
    umask().bits() & LAYER_MODES == 0
}

/// Hashes all that is in a directory of a staging area. `check` may refuse so many bytes of content: files with holes take
/// no room, but time.
///
/// # Errors
/// [`crate::Error::Fs`], also for what is neither file, directory nor link; and what `check` has.
pub(crate) fn of_tree(path: &Path, check: &dyn Fn(u64) -> Result<()>) -> Result<Sha256Digest> {
    let mut hashing = Hashing { check, bytes: 0 };
    let hash = hashing.directory(&Dir::open(path)?, ROOT)?;
    Ok(key::content(&[hash]).0)
}

struct Hashing<'a> {
    check: &'a dyn Fn(u64) -> Result<()>,
    /// Content so far.
    bytes: u64,
}

impl Hashing<'_> {
    fn directory(&mut self, dir: &Dir, mode: u32) -> Result<Digest> {
        let mut children = Vec::new();
        for name in dir.names()? {
            let stat = dir.stat(&name)?;
            let stat = stat.ok_or(io::ErrorKind::NotFound);
            let stat = stat.context_with("look at", || dir.path().join(&name))?;
            let hash = self.child(dir, &name, &stat)?;
            children.push((name, hash));
        }
        let children: Vec<_> = children
            .iter()
            .map(|(name, hash)| (name.as_bytes(), *hash))
            .collect();
        Ok(key::directory_content(mode, &children))
    }

    fn child(&mut self, dir: &Dir, name: &OsStr, stat: &Stat) -> Result<Digest> {
        let path = || dir.path().join(name);
        let mode = stat.st_mode & LAYER_MODES;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                dir.look_into_child(name, stat, |child| self.directory(child, mode))
            }
            FileType::Symlink => Ok(key::symlink_content(&dir.read_link(name)?)),
            FileType::RegularFile => {
                let size = u64::try_from(stat.st_size).unwrap_or_default();
                self.bytes = self.bytes.saturating_add(size);
                (self.check)(self.bytes)?;
                let file = dir.open_own_file(name, stat)?;
                key::file_content(mode, size, file).context_with("read", path)
            }
            _ => Err(io::Error::from(io::ErrorKind::Unsupported)).context_with("read", path),
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the disk directly")]
mod tests {
    use super::of_tree;
    use crate::{Error, digest::Sha256Digest, oci::key};
    use std::{
        fs::{self, Permissions},
        os::unix::fs::{PermissionsExt, symlink},
        path::Path,
    };

    fn hash_of(path: &Path) -> Sha256Digest {
        of_tree(path, &|_| Ok(())).unwrap()
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn make(root: &Path) {
        fs::create_dir_all(root.join("dir/deep")).unwrap();
        for (name, content) in [
            ("dir/b", "content of b"),
            ("dir.c", "c"),
            ("dir/deep/x", ""),
        ] {
            fs::write(root.join(name), content).unwrap();
            set_mode(&root.join(name), 0o644);
        }
        symlink("dir/b", root.join("link")).unwrap();
        for name in ["dir", "dir/deep"] {
            set_mode(&root.join(name), 0o755);
        }
    }

    type Change = fn(&Path);

    fn changed(change: Change) -> Sha256Digest {
        let temp = tempfile::tempdir().unwrap();
        make(temp.path());
        change(temp.path());
        hash_of(temp.path())
    }

    #[test]
    fn it_is_what_buildkit_calls_it() {
        let temp = tempfile::tempdir().unwrap();
        make(temp.path());
        let file = |content: &str| {
            key::file_content(0o644, content.len() as u64, content.as_bytes()).unwrap()
        };
        let deep = key::directory_content(0o755, &[(b"x", file(""))]);
        let dir = key::directory_content(0o755, &[(b"b", file("content of b")), (b"deep", deep)]);
        let link = key::symlink_content(b"dir/b");
        let children: [(&[u8], _); 3] = [(b"dir", dir), (b"dir.c", file("c")), (b"link", link)];
        let root = key::directory_content(0o755, &children);
        assert_eq!(hash_of(temp.path()), key::content(&[root]).0);
    }

    #[test]
    fn names_types_permissions_content_and_targets_count() {
        let changes: [(Change, &str); 8] = [
            (
                |root| fs::rename(root.join("dir.c"), root.join("dir.d")).unwrap(),
                "a name",
            ),
            (
                |root| fs::write(root.join("dir/b"), "content of B").unwrap(),
                "content",
            ),
            (|root| set_mode(&root.join("dir/b"), 0o744), "a program"),
            (
                |root| set_mode(&root.join("dir"), 0o700),
                "a directory's permissions",
            ),
            (
                |root| fs::create_dir(root.join("dir/deep/new")).unwrap(),
                "an empty directory",
            ),
            (
                |root| fs::remove_file(root.join("dir/deep/x")).unwrap(),
                "a file less",
            ),
            (
                |root| {
                    fs::remove_file(root.join("link")).unwrap();
                    symlink("dir/c", root.join("link")).unwrap();
                },
                "a target",
            ),
            (
                |root| {
                    fs::remove_file(root.join("link")).unwrap();
                    fs::write(root.join("link"), "dir/b").unwrap();
                },
                "a type",
            ),
        ];
        let same = changed(|_| {});
        for (change, what) in changes {
            assert_ne!(changed(change), same, "{what}");
        }
    }

    #[test]
    fn rights_of_others_to_write_and_times_do_not_count() {
        let others: [Change; 3] = [
            |root| set_mode(&root.join("dir/deep"), 0o777),
            |root| {
                fs::remove_file(root.join("dir.c")).unwrap();
                fs::write(root.join("dir.c"), "c").unwrap();
                set_mode(&root.join("dir.c"), 0o666);
            },
            |root| {
                let file = fs::File::open(root.join("dir/b")).unwrap();
                file.set_modified(std::time::SystemTime::UNIX_EPOCH)
                    .unwrap();
            },
        ];
        for change in others {
            assert_eq!(changed(change), changed(|_| {}));
        }
    }

    #[test]
    fn what_is_not_to_be_read_is_and_stays_so() {
        let temp = tempfile::tempdir().unwrap();
        make(temp.path());
        set_mode(&temp.path().join("dir/b"), 0);
        set_mode(&temp.path().join("dir"), 0o300);
        hash_of(temp.path());
        let mode = |name: &str| {
            let found = fs::symlink_metadata(temp.path().join(name)).unwrap();
            found.permissions().mode() & 0o777
        };
        assert_eq!(mode("dir"), 0o300);
        set_mode(&temp.path().join("dir"), 0o700);
        assert_eq!(mode("dir/b"), 0);
    }

    #[test]
    fn content_without_end_is_refused_before_it_is_read() {
        let temp = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            let file = fs::File::create(temp.path().join(name)).unwrap();
            file.set_len(1 << 40).unwrap();
        }
        let check = |bytes: u64| {
            assert!(bytes == 1 << 40, "{bytes}");
            Err(Error::usage("too much"))
        };
        let err = of_tree(temp.path(), &check).unwrap_err();
        assert_eq!(err.to_string(), "too much");
    }
}
