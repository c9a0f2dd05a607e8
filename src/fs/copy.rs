//! [`copy_tree`]: a second copy of what was staged, for a second place, as if it had been extracted twice.
//!
//! The two share nothing: a hard link within the tree becomes one within the copy. Only blocks are shared, where the
//! file system can do that behind everybody's back. Whoever asks for it gets the files themselves under further names
//! ([`link_tree`]), which takes no time at all, and has to live with one file in two places.

use crate::{
    digest::Sha2Digest,
    error::Result,
    fs::{Attributes, Context, Dir, Mtime, Tree},
    rel_path::RelPath,
};
use rustix::{
    fs::{self, FileType, Mode, SeekFrom, Stat},
    io::{Errno, Result as IoResult},
};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    io,
    os::unix::{ffi::OsStrExt, fs::FileExt},
    path::Path,
};

/// How much is copied at once where the kernel does not do it, in bytes.
const BUFFER: usize = 128 * 1024;

/// Copies all that is in `from` into `to`, an empty directory: content with its holes, permissions, times, links.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    copy(from, to, false)
}

/// The same, with hard links for files where the file system cannot share blocks. Where neither is possible, as between
/// two file systems, content is copied.
pub(crate) fn link_tree(from: &Path, to: &Path) -> Result<()> {
    copy(from, to, true)
}

fn copy(from: &Path, to: &Path, links: bool) -> Result<()> {
    let mut copy = Copy {
        tree: Tree::open(to)?,
        linked: HashMap::new(),
        clones: true,
        links,
    };
    copy.directory(&Dir::open(from)?, &RelPath::default())?;
    copy.tree.finish()
}

/// Returns a digest of what is in a directory, but for content: names, kinds, permissions and targets, and of files size
/// and time, which tell that content has changed.
pub(crate) fn print_of(directory: &Path) -> Result<String> {
    let mut print = Sha256::new();
    add_to_print(&mut print, &Dir::open(directory)?, Path::new(""))?;
    Ok(Sha2Digest::<32>::from_bytes(print.finalize().into()).to_string())
}

fn add_to_print(print: &mut Sha256, directory: &Dir, at: &Path) -> Result<()> {
    let mut names = directory.names()?;
    names.sort();
    for name in names {
        let Some(stat) = directory.stat(&name)? else {
            continue;
        };
        let path = at.join(&name);
        let mut entry = path.as_os_str().as_bytes().to_vec();
        entry.push(0);
        entry.extend(stat.st_mode.to_le_bytes());
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => add_to_print(print, &directory.open_child(&name)?, &path)?,
            FileType::Symlink => entry.extend(directory.read_link(&name)?),
            _ => {
                let Mtime { seconds, nanos } = Mtime::of(&stat);
                entry.extend(stat.st_size.to_le_bytes());
                entry.extend(seconds.to_le_bytes());
                entry.extend(nanos.to_le_bytes());
            }
        }
        print.update((entry.len() as u64).to_le_bytes());
        print.update(&entry);
    }
    Ok(())
}

/// A copy in the making.
struct Copy {
    tree: Tree,
    /// By inode: where the first name of a file that has several is.
    linked: HashMap<u64, RelPath>,
    /// Whether the file system has not refused to share blocks yet.
    clones: bool,
    /// Whether files may be linked, and the file system has not refused it yet.
    links: bool,
}

impl Copy {
    fn directory(&mut self, from: &Dir, at: &RelPath) -> Result<()> {
        for name in from.names()? {
            let Some(stat) = from.stat(&name)? else {
                continue;
            };
            let path = at.join(&name);
            let mtime = Some(Mtime::of(&stat));
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Symlink => {
                    let target = from.read_link(&name)?;
                    self.tree
                        .symlink(&path, OsStr::from_bytes(&target), mtime)?;
                }
                FileType::Directory => {
                    let attributes = Attributes {
                        mode: stat.st_mode,
                        mtime,
                    };
                    self.tree.directory(&path, attributes)?;
                    let mode = Mode::from_raw_mode(stat.st_mode);
                    let locked = !mode.contains(Mode::RUSR | Mode::XUSR);
                    if locked {
                        from.set_mode(&name, mode | Mode::RWXU)?;
                    }
                    self.directory(&from.open_child(&name)?, &path)?;
                    if locked {
                        from.set_mode(&name, mode)?;
                    }
                }
                _ => self.file(from, &name, &stat, &path)?,
            }
        }
        Ok(())
    }

    fn file(&mut self, from: &Dir, name: &OsStr, stat: &Stat, path: &RelPath) -> Result<()> {
        if self.links && !self.clones {
            self.links = self.tree.link_from(path, from, name)?;
            if self.links {
                return Ok(());
            }
        }
        if stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&stat.st_ino) {
                return self.tree.hard_link(path, first);
            }
            self.linked.insert(stat.st_ino, path.clone());
        }
        let mode = Mode::from_raw_mode(stat.st_mode);
        let locked = !mode.contains(Mode::RUSR);
        if locked {
            from.set_file_mode(name, mode | Mode::RUSR)?;
        }
        let source = from.open_file(name)?;
        if locked {
            from.set_file_mode(name, mode)?;
        }
        let copy = self.tree.file(
            path,
            Attributes {
                mode: stat.st_mode,
                mtime: Some(Mtime::of(stat)),
            },
        )?;
        self.clones = self.clones && fs::ioctl_ficlone(copy.as_file(), &source).is_ok();
        if !self.clones && self.links {
            return self.file(from, name, stat, path);
        }
        if !self.clones {
            copy_content(&source, copy.as_file(), stat)
                .context_with("copy", || from.path().join(name))?;
        }
        copy.finish()
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
