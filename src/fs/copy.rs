//! [`copy_tree`]: a second copy of what was staged, for a second place, as if it had been extracted twice.
//!
//! The two share nothing: a hard link within the tree becomes one within the copy. Only blocks are shared, where the
//! file system can do that behind everybody's back. Whoever asks for it gets the files themselves under further names
//! ([`link_tree`]), which takes hardly any time, and has to live with one file in two places.
//!
//! Nobody else works in the two directories, so that names can be taken for what they were a moment ago.

use crate::{
    digest::Sha2Digest,
    error::Result,
    fs::{Context, Dir, Mtime},
};
use rustix::{
    fs::{self, AtFlags, FileType, Mode, OFlags, SeekFrom, Stat},
    io::{Errno, Result as IoResult},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    io,
    os::unix::{ffi::OsStrExt, fs::FileExt},
    path::{Path, PathBuf},
};

/// How much is copied at once where the kernel does not do it, in bytes.
const BUFFER: usize = 128 * 1024;

/// Copies all that is in `from` into `to`, an empty directory: content with its holes, permissions, times, links. Returns
/// the [`Print`] of `from`, taken on the way.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> Result<Print> {
    copy(from, to, false)
}

/// The same, with hard links for files where the file system cannot share blocks. Where neither is possible, as between
/// two file systems, content is copied.
pub(crate) fn link_tree(from: &Path, to: &Path) -> Result<Print> {
    copy(from, to, true)
}

fn copy(from: &Path, to: &Path, links: bool) -> Result<Print> {
    let (from, to) = (Dir::open(from)?, Dir::open(to)?);
    let mut copy = Copy {
        root: &to,
        linked: HashMap::new(),
        clones: true,
        links,
        print: Sha256::new(),
    };
    copy.directory(&from, &to, Path::new(""))?;
    let digest: [u8; 32] = copy.print.finalize().into();
    Ok(Print(Sha2Digest::from_bytes(digest).to_string()))
}

/// A digest of what is in a directory, but for content: names, kinds, permissions and targets, and of files size and time,
/// which tell that content has changed.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Print(String);

/// A copy in the making.
struct Copy<'a> {
    root: &'a Dir,
    /// By inode: where the first name of a file that has several is.
    linked: HashMap<u64, PathBuf>,
    /// Whether the file system has not refused to share blocks yet.
    clones: bool,
    /// Whether files may be linked, and the file system has not refused it yet.
    links: bool,
    print: Sha256,
}

impl Copy<'_> {
    fn directory(&mut self, from: &Dir, to: &Dir, at: &Path) -> Result<()> {
        let mut names = from.names()?;
        names.sort();
        for name in names {
            let Some(stat) = from.stat(&name)? else {
                continue;
            };
            let path = at.join(&name);
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Symlink => {
                    let target = from.read_link(&name)?;
                    self.add_to_print(&path, &stat, &target);
                    to.create_symlink(&name, &target, Mtime::of(&stat))?;
                }
                FileType::Directory => {
                    self.add_to_print(&path, &stat, &[]);
                    self.child(from, to, &path, &stat)?;
                }
                _ => {
                    let Mtime { seconds, nanos } = Mtime::of(&stat);
                    let state = [stat.st_size, seconds, i64::from(nanos)].map(i64::to_le_bytes);
                    self.add_to_print(&path, &stat, state.as_flattened());
                    self.file((from, to), &name, &stat, &path)?;
                }
            }
        }
        Ok(())
    }

    fn add_to_print(&mut self, path: &Path, stat: &Stat, more: &[u8]) {
        let path = path.as_os_str().as_bytes();
        // All that has no fixed length has one before it.
        for part in [path, &stat.st_mode.to_le_bytes(), more] {
            self.print.update((part.len() as u64).to_le_bytes());
            self.print.update(part);
        }
    }

    /// Copies the directory at `path`.
    fn child(&mut self, from: &Dir, to: &Dir, path: &Path, stat: &Stat) -> Result<()> {
        let name = path.file_name().unwrap_or_default();
        to.create_child(name)?;
        let copy = to.open_child(name)?;
        from.look_into_child(name, stat, |child| self.directory(child, &copy, path))?;
        copy.set_attributes(Mode::from_raw_mode(stat.st_mode), Mtime::of(stat))
    }

    fn file(&mut self, dirs: (&Dir, &Dir), name: &OsStr, stat: &Stat, path: &Path) -> Result<()> {
        let (from, to) = dirs;
        if self.links && !self.clones {
            self.links = from.link_child(name, to)?;
            if self.links {
                return Ok(());
            }
        }
        if let Some(first) = self.linked.get(&stat.st_ino) {
            return fs::linkat(self.root, first, to, name, AtFlags::empty())
                .context_with("create link", || to.path().join(name));
        }
        let mode = Mode::from_raw_mode(stat.st_mode);
        let source = from.open_own_file(name, stat)?;
        let copy = to.create_file(name)?;
        self.clones = self.clones && fs::ioctl_ficlone(&copy, &source).is_ok();
        if !self.clones && self.links {
            to.remove_child(name)?;
            return self.file(dirs, name, stat, path);
        }
        if !self.clones {
            copy_content(&source, &copy, stat).context_with("copy", || from.path().join(name))?;
        }
        let shown = || to.path().join(name);
        fs::futimens(&copy, &Mtime::of(stat).timestamps())
            .context_with("set the time of", shown)?;
        fs::fchmod(&copy, mode).context_with("set permissions of", shown)?;
        if stat.st_nlink > 1 {
            self.linked.insert(stat.st_ino, path.to_owned());
        }
        Ok(())
    }
}

impl Dir {
    /// Creates a symbolic link.
    fn create_symlink(&self, name: &OsStr, target: &[u8], mtime: Mtime) -> Result<()> {
        let shown = || self.path().join(name);
        fs::symlinkat(OsStr::from_bytes(target), self, name).context_with("create link", shown)?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        fs::utimensat(self, name, &mtime.timestamps(), flags).context_with("set the time of", shown)
    }

    /// Creates a file that only its owner can write to.
    fn create_file(&self, name: &OsStr) -> Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let created = fs::openat(self, name, flags, Mode::RUSR | Mode::WUSR);
        Ok(created
            .context_with("create", || self.path().join(name))?
            .into())
    }

    /// Gives a file the same name in another directory, too. Returns whether the file system can do that.
    fn link_child(&self, name: &OsStr, to: &Self) -> Result<bool> {
        match fs::linkat(self, name, to, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::XDEV | Errno::MLINK | Errno::PERM | Errno::OPNOTSUPP) => Ok(false),
            Err(err) => Err(err).context_with("create link", || to.path().join(name)),
        }
    }

    /// Gives the directory itself permissions and time.
    fn set_attributes(&self, mode: Mode, mtime: Mtime) -> Result<()> {
        fs::futimens(self, &mtime.timestamps()).context("set the time of", self.path())?;
        fs::fchmod(self, mode).context("set permissions of", self.path())
    }
}

/// Copies the content of a file to an empty one, without its holes.
fn copy_content(from: &File, to: &File, stat: &Stat) -> io::Result<()> {
    let length = u64::try_from(stat.st_size).unwrap_or(0);
    let allocated = u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
    if allocated >= length {
        return copy_range(from, to, 0, length);
    }
    let mut end = 0;
    while let Some(begin) = next_data(from, end)? {
        end = fs::seek(from, SeekFrom::Hole(begin))?;
        copy_range(from, to, begin, end)?;
    }
    to.set_len(length)
}

/// Returns where data begins that is not before `at`.
fn next_data(file: &File, at: u64) -> IoResult<Option<u64>> {
    match fs::seek(file, SeekFrom::Data(at)) {
        Err(Errno::NXIO) => Ok(None),
        found => found.map(Some),
    }
}

/// Copies what is from `begin` to `end`, in the kernel if it can.
fn copy_range(from: &File, to: &File, begin: u64, end: u64) -> io::Result<()> {
    let (mut read, mut written) = (begin, begin);
    while read < end {
        let rest = usize::try_from(end - read).unwrap_or(usize::MAX);
        match fs::copy_file_range(from, Some(&mut read), to, Some(&mut written), rest) {
            Ok(1..) | Err(Errno::INTR) => {}
            // What is wrong, if it is not that the kernel cannot do this, is found out by reading and writing.
            Ok(0) | Err(_) => return copy_range_by_hand(from, to, read, end),
        }
    }
    Ok(())
}

fn copy_range_by_hand(from: &File, to: &File, begin: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut at = begin;
    while at < end {
        let rest = usize::try_from(end - at).unwrap_or(usize::MAX);
        let part = &mut buffer[..rest.min(BUFFER)];
        from.read_exact_at(part, at)?;
        to.write_all_at(part, at)?;
        at += part.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the disk directly")]
mod tests {
    use super::{copy_range_by_hand, copy_tree};
    use std::{
        fs::{self, File, FileTimes, Permissions},
        os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink},
        path::{Path, PathBuf},
        time::{Duration, SystemTime},
    };

    /// Returns all that there is below a directory, with everything that counts about it.
    fn list(directory: &Path) -> Vec<String> {
        let mut paths: Vec<PathBuf> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        let mut list = Vec::new();
        for path in paths {
            let meta = fs::symlink_metadata(&path).unwrap();
            let mode = meta.mode();
            let content = if meta.is_dir() {
                // Everybody may look at it here.
                fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
                list.extend(self::list(&path));
                fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
                String::new()
            } else if meta.is_symlink() {
                fs::read_link(&path).unwrap().display().to_string()
            } else {
                fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
                let content = fs::read(&path).unwrap();
                fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
                let used: Vec<_> = content
                    .iter()
                    .enumerate()
                    .filter(|(_, b)| **b != 0)
                    .collect();
                format!("{} {used:?}", content.len())
            };
            let nlink = if meta.is_dir() { 0 } else { meta.nlink() };
            let name = path.file_name().unwrap();
            let time = (meta.mtime(), meta.mtime_nsec());
            list.push(format!("{name:?} {mode:o} {nlink} {time:?} {content}"));
        }
        list
    }

    fn make(root: &Path) {
        fs::create_dir_all(root.join("dir/deep")).unwrap();
        fs::create_dir(root.join("locked")).unwrap();
        for (path, mode) in [
            ("dir/file", 0o644),
            ("dir/deep/x", 0o755),
            ("locked/secret", 0),
        ] {
            fs::write(root.join(path), path).unwrap();
            fs::set_permissions(root.join(path), Permissions::from_mode(mode)).unwrap();
        }
        fs::hard_link(root.join("dir/file"), root.join("another name")).unwrap();
        fs::hard_link(root.join("dir/file"), root.join("dir/deep/third")).unwrap();
        symlink("/no/such\nplace", root.join("dir/link")).unwrap();
        symlink("dir", root.join("to-dir")).unwrap();
        fs::write(root.join("empty"), "").unwrap();
        let sparse = File::create(root.join("sparse")).unwrap();
        sparse.write_all_at(b"data", 1 << 20).unwrap();
        sparse.set_len(3 << 20).unwrap();
        let all_hole = File::create(root.join("hole")).unwrap();
        all_hole.set_len(1 << 20).unwrap();
        for (number, path) in ["empty", "dir/deep/x", "dir/deep", "dir", "locked"]
            .iter()
            .enumerate()
        {
            let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
            let times = FileTimes::new().set_modified(time + Duration::from_nanos(number as u64));
            File::open(root.join(path))
                .unwrap()
                .set_times(times)
                .unwrap();
        }
        fs::set_permissions(root.join("dir/deep"), Permissions::from_mode(0o555)).unwrap();
        fs::set_permissions(root.join("locked"), Permissions::from_mode(0o300)).unwrap();
    }

    #[test]
    fn a_copy_is_the_same_and_shares_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let (from, to) = (temp.path().join("from"), temp.path().join("to"));
        fs::create_dir(&from).unwrap();
        make(&from);
        let before = list(&from);
        fs::create_dir(&to).unwrap();
        copy_tree(&from, &to).unwrap();
        assert_eq!(list(&to), before);
        assert_eq!(list(&from), before);

        let meta = |path: PathBuf| fs::symlink_metadata(path).unwrap();
        for path in ["dir/file", "dir/link", "sparse", "dir"] {
            assert_ne!(
                meta(from.join(path)).ino(),
                meta(to.join(path)).ino(),
                "{path}"
            );
        }
        let same =
            ["dir/file", "another name", "dir/deep/third"].map(|path| meta(to.join(path)).ino());
        assert_eq!(same, [same[0]; 3]);
        for (path, most) in [("sparse", 64 * 1024), ("hole", 4096)] {
            let meta = meta(to.join(path));
            assert!(
                meta.blocks() * 512 <= most,
                "{path}: {} blocks",
                meta.blocks()
            );
        }
        fs::write(to.join("dir/file"), "changed").unwrap();
        assert_eq!(list(&from), before);
        for root in [from, to] {
            crate::fs::remove_tree(&root).unwrap();
        }
    }

    #[test]
    fn ranges_are_copied_without_the_kernels_help() {
        let temp = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..300_000_u32).map(|n| (n / 7).to_le_bytes()[0]).collect();
        fs::write(temp.path().join("from"), &content).unwrap();
        let from = File::open(temp.path().join("from")).unwrap();
        let to = File::create(temp.path().join("to")).unwrap();
        copy_range_by_hand(&from, &to, 5, 300_000).unwrap();
        let copied = fs::read(temp.path().join("to")).unwrap();
        assert!(copied[5..] == content[5..] && copied[..5] == [0; 5]);
        assert!(copy_range_by_hand(&from, &to, 5, 300_001).is_err());
    }
}
