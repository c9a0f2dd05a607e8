//! From a directory on disk.

use super::{member::Member, writer::TarZst};
use crate::{
    archive::cores,
    error::{Error, Result},
    fs::{Context, Dir},
};
use rustix::fs::{FileType, Mode};
use std::{ffi::OsStr, io, os::unix::ffi::OsStrExt, path::Path};
use tar::EntryType;

/// How a directory becomes an archive.
///
/// Members are sorted by name, directory by directory, and belong to root. Of their modes only two bits are taken:
/// whether the owner may execute and write. The rest is what a umask of 022 leaves, whatever the umask was.
pub(crate) struct Pack<'a> {
    /// The name that the directory gets.
    pub(crate) name: &'a [u8],
    /// The time of all members, in seconds since the epoch.
    pub(crate) mtime: i64,
    /// A name that is left out wherever it occurs.
    pub(crate) without: Option<&'a OsStr>,
    /// Asked before each member whether to go on.
    pub(crate) go_on: &'a (dyn Fn() -> bool + Sync),
}

/// Writes everything in `tree` to the new file `path`, a `.tar.zst`.
///
/// # Errors
/// [`Error::Fs`], also for what is neither file, directory nor link; [`Error::Archive`] for a file that grows or shrinks
/// meanwhile; [`Error::Cancelled`].
pub(crate) fn pack(tree: &Path, path: &Path, pack: &Pack) -> Result<()> {
    let mut out = TarZst::create(path, u32::try_from(cores()).unwrap_or(1))?;
    pack.directory(&Dir::open(tree)?, pack.name, &mut out)?;
    out.end_archive()?;
    out.finish()
}

impl Pack<'_> {
    fn directory(&self, dir: &Dir, name: &[u8], out: &mut TarZst) -> Result<()> {
        let member = Member {
            kind: EntryType::Directory,
            mode: 0o755,
            mtime: self.mtime,
            ..Member::file([name, b"/"].concat())
        };
        out.append(&member, io::empty())?;
        let mut children = dir.names()?;
        children.sort();
        for child in children {
            if Some(child.as_os_str()) != self.without {
                let name = [name, b"/", child.as_bytes()].concat();
                self.child(dir, &child, name, out)?;
            }
        }
        Ok(())
    }

    fn child(&self, dir: &Dir, child: &OsStr, name: Vec<u8>, out: &mut TarZst) -> Result<()> {
        if !(self.go_on)() {
            return Err(Error::Cancelled);
        }
        let (kind, mode) = dir
            .look(child)?
            .ok_or(io::ErrorKind::NotFound)
            .context_with("pack", || dir.path().join(child))?;
        let member = Member {
            mode: portable(mode),
            mtime: self.mtime,
            ..Member::file(name)
        };
        match kind {
            FileType::Directory => self.directory(&dir.open_child(child)?, &member.name, out),
            FileType::RegularFile => {
                let file = dir.open_file(child)?;
                let path = || dir.path().join(child);
                let size = file.metadata().context_with("look at", path)?.len();
                out.append(&Member { size, ..member }, file)
            }
            FileType::Symlink => {
                let member = Member {
                    kind: EntryType::Symlink,
                    link: Some(dir.read_link(child)?),
                    mode: 0o777,
                    ..member
                };
                out.append(&member, io::empty())
            }
            _ => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "it is neither file, directory nor link",
            ))
            .context("pack", dir.path().join(child)),
        }
    }
}

/// Returns the mode of a file that has the owner's permissions to execute and to write.
fn portable(mode: Mode) -> u32 {
    let all = if mode.contains(Mode::XUSR) {
        0o755
    } else {
        0o644
    };
    let written = if mode.contains(Mode::WUSR) { 0 } else { 0o222 };
    all & !written
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the disk directly")]
mod tests {
    use super::{Pack, pack};
    use std::{
        ffi::OsStr,
        fs,
        os::unix::{
            ffi::OsStrExt,
            fs::{PermissionsExt, symlink},
        },
        path::Path,
    };

    /// Lists what packing a directory makes, or says why it does not.
    fn packed(tree: &Path, go_on: bool) -> Result<Vec<String>, String> {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("x.tar.zst");
        let how = Pack {
            name: b"a/top",
            mtime: 77,
            without: Some(OsStr::new(".git")),
            go_on: &|| go_on,
        };
        pack(tree, &path, &how).map_err(|err| err.to_string())?;
        let tar = zstd::decode_all(&fs::read(path).unwrap()[..]).unwrap();
        let mut archive = tar::Archive::new(&tar[..]);
        let members = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            let name = entry.path_bytes().escape_ascii().to_string();
            assert_eq!((header.uid().unwrap(), header.mtime().unwrap()), (0, 77));
            format!("{name} {:o} {}", header.mode().unwrap(), entry.size())
        });
        Ok(members.collect())
    }

    #[test]
    fn members_are_sorted_and_say_nothing_of_the_machine() {
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name);
        fs::create_dir_all(path("b/.git")).unwrap();
        fs::create_dir(path("b/empty")).unwrap();
        for (name, mode) in [
            ("b.c", 0o600),
            ("b/run", 0o700),
            ("b/read", 0o400),
            ("B", 0o664),
        ] {
            fs::write(path(name), name).unwrap();
            fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::write(temp.path().join(OsStr::from_bytes(b"\xff")), "").unwrap();
        symlink("/no/where", path("a")).unwrap();
        assert_eq!(
            packed(temp.path(), true).unwrap(),
            [
                "a/top/ 755 0",
                "a/top/B 644 1",
                "a/top/a 777 0",
                "a/top/b/ 755 0",
                "a/top/b/empty/ 755 0",
                "a/top/b/read 444 6",
                "a/top/b/run 755 5",
                "a/top/b.c 644 3",
                "a/top/\\xff 644 0",
            ]
        );
        assert_eq!(packed(temp.path(), false).unwrap_err(), "cancelled");
    }

    #[test]
    fn what_is_neither_file_nor_directory_nor_link_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let socket = temp.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
        let err = packed(temp.path(), true).unwrap_err();
        assert!(
            err.starts_with("cannot pack `") && err.ends_with("/socket`"),
            "{err}"
        );
    }
}
