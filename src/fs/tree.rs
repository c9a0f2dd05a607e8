//! [`Tree`]: a directory in which the members of an archive are created, and which nothing can leave.
//!
//! Confinement is by descriptor, not by looking at names: the directory of every member is opened component by
//! component from the root with `O_NOFOLLOW`. Where a component is a symbolic link (`lib64 -> lib`, then `lib64/f`, is
//! common in sysroots), the kernel resolves it with `openat2(RESOLVE_BENEATH)`: a link that is absolute or climbs out
//! is an error of the archive. The last component is created with `O_EXCL`, so an existing link is replaced and never
//! written through.
//!
//! Tried and not kept: two threads that give directories their times. A tree with 5,000 of them takes as long (1.00).

use crate::{
    error::{Error, Result},
    fs::{Context, umask},
    rel_path::{RelPath, shown_name},
};
use rustix::{
    fs::{self, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps},
    io::Errno,
};
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::File,
    io::{Seek, SeekFrom, Write},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

const OPEN_DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Descriptors of parent directories that are kept open. Deeper ones are opened again for every member.
const CACHED_DEPTH: usize = 64;

/// How many directories deep links may lead. Names are short that go through links, and links can go through links: the
/// tree could become deeper than anybody can remove with the descriptors that a process has.
const MAX_LINKED_DEPTH: usize = 256;

/// A modification time: seconds since the epoch, and nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mtime {
    pub(crate) seconds: i64,
    pub(crate) nanos: u32,
}

impl Mtime {
    /// Returns that of something that is there.
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            seconds: stat.st_mtime,
            nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        }
    }

    pub(super) fn timestamps(self) -> Timestamps {
        Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: fs::UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: self.seconds,
                tv_nsec: i64::from(self.nanos),
            },
        }
    }
}

/// Permission bits, all of which are set whatever the umask, and modification time of a file or directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes {
    pub(crate) mode: u32,
    pub(crate) mtime: Option<Mtime>,
}

/// What to do about a directory on the way that is not there.
#[derive(Clone, Copy, PartialEq)]
enum Missing {
    Create,
    Refuse,
}

/// A confined tree under construction. Attributes of directories are applied by [`Tree::finish`].
pub(crate) struct Tree {
    root: Arc<OwnedFd>,
    path: Arc<Path>,
    umask: u32,
    parents: Vec<Parent>,
    directories: BTreeMap<RelPath, Pending>,
    /// Symbolic links with their targets, if [`Tree::finish`] has to look at them.
    links: Option<BTreeMap<RelPath, OsString>>,
}

/// A directory on the way to a member, which is kept open.
struct Parent {
    name: OsString,
    directory: Arc<OwnedFd>,
    /// Whether the way to it leads through a symbolic link.
    through_link: bool,
}

/// What a directory gets when all of its content is there.
struct Pending {
    chmod: Option<Mode>,
    mtime: Option<Mtime>,
}

impl Tree {
    /// Opens an existing directory as the root.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let root = fs::open(path, OPEN_DIRECTORY, Mode::empty()).context("open", path)?;
        Ok(Self {
            root: Arc::new(root),
            path: path.into(),
            umask: umask().bits(),
            parents: Vec::new(),
            directories: BTreeMap::new(),
            links: None,
        })
    }

    /// Makes [`Tree::finish`] refuse symbolic links that lead out of the tree.
    pub(crate) fn deny_external_symlinks(&mut self) {
        self.links = Some(BTreeMap::new());
    }

    /// Forgets which directories are open: they may lead through a link that another hand has replaced.
    pub(crate) fn forget_parents(&mut self) {
        self.parents.clear();
    }

    /// Returns whether the way to a member leads through a symbolic link as things are. Then its path is not the only one
    /// that it has.
    ///
    /// # Errors
    /// [`Error::Archive`] for a link that leads out of the tree or nowhere.
    pub(crate) fn leads_through_link(&mut self, path: &RelPath) -> Result<bool> {
        let Some((_name, way)) = last(path) else {
            return Ok(false);
        };
        match self.walk(path, way, Missing::Refuse) {
            // What is not there yet is no link, but it may be behind one.
            Err(Error::Fs { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                let way = self.parents.last().is_some_and(|way| way.through_link);
                Ok(way || self.parents.len() == CACHED_DEPTH)
            }
            walked => walked.map(|(_, through_link)| through_link),
        }
    }

    /// Creates a regular file, in place of whatever but a filled directory has its name.
    pub(crate) fn file<'a>(
        &mut self,
        path: &'a RelPath,
        attributes: Attributes,
    ) -> Result<TreeFile<'a>> {
        let (parent, name) = self.place(path, Missing::Create)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = permissions(attributes.mode);
        let create = || fs::openat(&parent, name, flags, mode);
        let fd = self.replacing(path, &parent, create)?;
        let chmod = (mode.bits() & self.umask != 0).then_some(mode);
        Ok(TreeFile {
            file: File::from(fd),
            root: Arc::clone(&self.path),
            path,
            chmod,
            mtime: attributes.mtime,
        })
    }

    /// Gives the name of a regular file to one that has none, from [`super::create_unnamed`], in place of whatever but a
    /// filled directory has that name.
    ///
    /// # Errors
    /// [`Error::Fs`] also if it cannot be given one; its content can then be written to another.
    pub(crate) fn adopt(
        &mut self,
        path: &RelPath,
        file: File,
        attributes: Attributes,
    ) -> Result<()> {
        let (parent, name) = self.place(path, Missing::Create)?;
        // As a link, since the kernel allows only root to do it by the descriptor itself.
        let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
        self.replacing(path, &parent, || {
            fs::linkat(CWD, &unnamed, &parent, name, AtFlags::SYMLINK_FOLLOW)
        })?;
        let adopted = TreeFile {
            file,
            root: Arc::clone(&self.path),
            path,
            chmod: Some(permissions(attributes.mode)),
            mtime: attributes.mtime,
        };
        adopted.finish()
    }

    /// Creates a directory, or takes over the attributes if it is there already.
    pub(crate) fn directory(&mut self, path: &RelPath, attributes: Attributes) -> Result<()> {
        if path.is_empty() {
            return Ok(());
        }
        let (parent, name) = self.place(path, Missing::Create)?;
        let is_directory = || {
            let stat = fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW);
            stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
        };
        let mode = permissions(attributes.mode);
        // Writable to us until all of its content is there.
        let created = self.replacing(path, &parent, || {
            match fs::mkdirat(&parent, name, mode | Mode::RWXU) {
                Err(Errno::EXIST) if is_directory() => Ok(false),
                result => result.map(|()| true),
            }
        })?;
        let is_final = created && mode.contains(Mode::RWXU) && mode.bits() & self.umask == 0;
        let chmod = (!is_final).then_some(mode);
        self.directories.insert(
            path.clone(),
            Pending {
                chmod,
                mtime: attributes.mtime,
            },
        );
        Ok(())
    }

    /// Creates a symbolic link with the target as it is in the archive: it may point anywhere, but nothing of this
    /// tree is written through it unless it stays inside.
    pub(crate) fn symlink(
        &mut self,
        path: &RelPath,
        target: &OsStr,
        mtime: Option<Mtime>,
    ) -> Result<()> {
        let (parent, name) = self.place(path, Missing::Create)?;
        self.replacing(path, &parent, || fs::symlinkat(target, &parent, name))?;
        if let Some(links) = &mut self.links {
            links.insert(path.clone(), target.to_owned());
        }
        if let Some(mtime) = mtime {
            fs::utimensat(
                &parent,
                name,
                &mtime.timestamps(),
                AtFlags::SYMLINK_NOFOLLOW,
            )
            .context_with("set the time of", || self.path.join(path))?;
        }
        Ok(())
    }

    /// Makes `path` another name of the regular file `to`, which must be in the tree already.
    pub(crate) fn hard_link(&mut self, path: &RelPath, to: &RelPath) -> Result<()> {
        let problem = |what: &str| member_error(path, format!("hard link to `{to}`, which {what}"));
        let (from_parent, from_name) = match self.place(to, Missing::Refuse) {
            Err(Error::Fs { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Err(problem("is not in the archive before it"));
            }
            placed => placed?,
        };
        let stat = match fs::statat(&from_parent, from_name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Err(problem("is not in the archive before it")),
            stat => stat.context_with("look at", || self.path.join(to))?,
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(problem("is not a regular file"));
        }
        let (parent, name) = self.place(path, Missing::Create)?;
        let same_file = || {
            let there = fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW);
            there.is_ok_and(|there| (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino))
        };
        self.replacing(path, &parent, || {
            match fs::linkat(&from_parent, from_name, &parent, name, AtFlags::empty()) {
                Err(Errno::EXIST) if same_file() => Ok(()),
                linked => linked,
            }
        })
    }

    /// Returns whether there is a directory of this path, and not just a link to one.
    pub(crate) fn holds_directory(&mut self, path: &RelPath) -> Result<bool> {
        let (parent, name) = match self.place(path, Missing::Refuse) {
            Err(Error::Fs { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(false);
            }
            placed => placed?,
        };
        let stat = fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW);
        Ok(stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory))
    }

    /// Removes whatever has a path, with everything in it that `keep` does not want. Where there is nothing, nothing is
    /// done. Links on the way are followed as far as they stay inside; `path` itself is not.
    pub(crate) fn prune(&mut self, path: &RelPath, keep: &dyn Fn(&RelPath) -> bool) -> Result<()> {
        let (parent, name) = match self.place(path, Missing::Refuse) {
            Err(Error::Fs { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(());
            }
            placed => placed?,
        };
        self.remove(&parent, name, path, keep)?;
        // The open descriptors may lead through what was just removed.
        self.parents.clear();
        Ok(())
    }

    /// Does the same for everything in a directory, which itself stays.
    pub(crate) fn prune_content(
        &mut self,
        path: &RelPath,
        keep: &dyn Fn(&RelPath) -> bool,
    ) -> Result<()> {
        let components = path.components().count();
        let (directory, _through_link) = match self.walk(path, components, Missing::Refuse) {
            Err(Error::Fs { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(());
            }
            opened => opened?,
        };
        self.remove_content(&directory, path, keep)?;
        self.parents.clear();
        Ok(())
    }

    fn remove(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        path: &RelPath,
        keep: &dyn Fn(&RelPath) -> bool,
    ) -> Result<()> {
        let shown = || self.path.join(path);
        let flags = OPEN_DIRECTORY | OFlags::NOFOLLOW;
        match fs::openat(parent, name, flags, Mode::empty()) {
            Ok(directory) => {
                self.remove_content(&directory, path, keep)?;
                if keep(path) {
                    return Ok(());
                }
                fs::unlinkat(parent, name, AtFlags::REMOVEDIR).context_with("remove", shown)
            }
            Err(Errno::NOENT) => Ok(()),
            Err(Errno::NOTDIR | Errno::LOOP) if keep(path) => Ok(()),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                fs::unlinkat(parent, name, AtFlags::empty()).context_with("remove", shown)
            }
            Err(err) => Err(err).context_with("open", shown),
        }
    }

    fn remove_content(
        &self,
        directory: &OwnedFd,
        path: &RelPath,
        keep: &dyn Fn(&RelPath) -> bool,
    ) -> Result<()> {
        let shown = || self.path.join(path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let listed =
            fs::openat(directory, ".", flags, Mode::empty()).context_with("open", shown)?;
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&listed).context_with("list", shown)? {
            let entry = entry.context_with("list", shown)?;
            names.push(OsStr::from_bytes(entry.file_name().to_bytes()).to_owned());
        }
        for name in names.iter().filter(|name| *name != "." && *name != "..") {
            self.remove(directory, name, &path.join(name), keep)?;
        }
        Ok(())
    }

    /// Gives directories their permissions and times, the innermost first.
    pub(crate) fn finish(mut self) -> Result<()> {
        for (path, target) in self.links.take().unwrap_or_default() {
            self.refuse_external_symlink(&path, &target)?;
        }
        for (path, Pending { chmod, mtime }) in
            std::mem::take(&mut self.directories).into_iter().rev()
        {
            let (parent, name) = self.place(&path, Missing::Refuse)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let shown = || self.path.join(&path);
            let fd = match fs::openat(&parent, name, flags, Mode::empty()) {
                // A later member took its place.
                Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => continue,
                opened => opened.context_with("open", shown)?,
            };
            if let Some(mtime) = mtime {
                fs::futimens(&fd, &mtime.timestamps()).context_with("set the time of", shown)?;
            }
            if let Some(mode) = chmod {
                fs::fchmod(&fd, mode).context_with("set permissions of", shown)?;
            }
        }
        Ok(())
    }

    /// What leads to something inside is inside. What leads to nothing yet is outside if it turns back behind what may
    /// not be there: nobody knows what that will be.
    fn refuse_external_symlink(&self, path: &RelPath, target: &OsStr) -> Result<()> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let external = match fs::openat2(&self.root, path.as_ref(), flags, Mode::empty(), resolve) {
            Ok(_inside) => false,
            Err(Errno::XDEV) => true,
            Err(_) => turns_back(target),
        };
        if !external {
            return Ok(());
        }
        let target = shown_name(target.as_bytes());
        let problem = format!("the symbolic link to `{target}` leads out of the archive");
        Err(member_error(path, problem))
    }

    /// Returns the open directory a member belongs in, and its name there.
    fn place<'a>(
        &mut self,
        path: &'a RelPath,
        missing: Missing,
    ) -> Result<(Arc<OwnedFd>, &'a OsStr)> {
        let Some((name, way)) = last(path) else {
            return Err(member_error(
                path,
                "would replace the destination itself".into(),
            ));
        };
        let (parent, _through_link) = self.walk(path, way, missing)?;
        Ok((parent, name))
    }

    /// Opens the directory below the root that so many components of a path lead to, starting from the deepest one that
    /// is open already. Tells whether the way leads through a link.
    fn walk(
        &mut self,
        path: &RelPath,
        components: usize,
        missing: Missing,
    ) -> Result<(Arc<OwnedFd>, bool)> {
        let way = path.components().take(components);
        let known = self
            .parents
            .iter()
            .zip(way.clone())
            .take_while(|(parent, component)| parent.name == *component);
        let known = known.count();
        self.parents.truncate(known);
        let (mut here, mut through_link) = self.parents.last().map_or_else(
            || (Arc::clone(&self.root), false),
            |parent| (Arc::clone(&parent.directory), parent.through_link),
        );
        for (depth, component) in way.enumerate().skip(known) {
            let (directory, is_link) = self.step(&here, component, (path, depth), missing)?;
            here = Arc::new(directory);
            through_link |= is_link;
            if depth < CACHED_DEPTH {
                self.parents.push(Parent {
                    name: component.to_owned(),
                    directory: Arc::clone(&here),
                    through_link,
                });
            }
        }
        Ok((here, through_link))
    }

    /// Opens the directory `name` in `here`; it is component number `depth` of `path`. Tells whether it is a link to one.
    fn step(
        &self,
        here: &OwnedFd,
        name: &OsStr,
        (path, depth): (&RelPath, usize),
        missing: Missing,
    ) -> Result<(OwnedFd, bool)> {
        let open = || fs::openat(here, name, OPEN_DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
        let so_far = || path.components().take(depth + 1).collect::<PathBuf>();
        let directory = match open() {
            Err(Errno::NOENT) if missing == Missing::Create => {
                match fs::mkdirat(here, name, Mode::from_raw_mode(0o777)) {
                    Ok(()) | Err(Errno::EXIST) => {
                        open().context_with("open", || self.path.join(so_far()))
                    }
                    Err(err) => {
                        Err(err).context_with("create directory", || self.path.join(so_far()))
                    }
                }
            }
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return Ok((self.through_link(&so_far(), path)?, true));
            }
            opened => opened.context_with("open", || self.path.join(so_far())),
        };
        Ok((directory?, false))
    }

    /// Opens a directory that a symbolic link inside the tree leads to, if that is inside, too.
    fn through_link(&self, link: &Path, member: &RelPath) -> Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let opened = fs::openat2(&self.root, link, OPEN_DIRECTORY, Mode::empty(), resolve);
        let directory = opened.map_err(|errno| {
            let link = shown_name(link.as_os_str().as_bytes());
            let problem = match errno {
                Errno::XDEV => format!("`{link}` is a symbolic link that leads out of the tree"),
                Errno::NOTDIR => format!("`{link}` is not a directory"),
                Errno::NOENT | Errno::LOOP => {
                    format!("`{link}` is a symbolic link that leads nowhere")
                }
                _ => format!("`{link}` cannot be resolved: {errno}"),
            };
            member_error(member, problem)
        })?;
        if self
            .is_too_deep(&directory)
            .context("look at", &self.path)?
        {
            let link = shown_name(link.as_os_str().as_bytes());
            let problem = format!(
                "`{link}` is a symbolic link that leads deeper than {MAX_LINKED_DEPTH} directories"
            );
            return Err(member_error(member, problem));
        }
        Ok(directory)
    }

    /// Returns whether the way up from a directory of the tree to its root is too long.
    fn is_too_deep(&self, directory: &OwnedFd) -> rustix::io::Result<bool> {
        let is_root = |fd: &OwnedFd| {
            let (here, root) = (fs::fstat(fd)?, fs::fstat(&self.root)?);
            Ok::<_, Errno>((here.st_dev, here.st_ino) == (root.st_dev, root.st_ino))
        };
        let mut here = fs::openat(directory, ".", OPEN_DIRECTORY, Mode::empty())?;
        for _ in 0..=MAX_LINKED_DEPTH {
            if is_root(&here)? {
                return Ok(false);
            }
            here = fs::openat(&here, "..", OPEN_DIRECTORY, Mode::empty())?;
        }
        Ok(true)
    }

    /// Runs `create`, and once more without what is in its way. A directory goes only if it is empty, as with GNU tar.
    fn replacing<T>(
        &mut self,
        path: &RelPath,
        parent: &OwnedFd,
        create: impl Fn() -> rustix::io::Result<T>,
    ) -> Result<T> {
        match create() {
            Err(Errno::EXIST) => {}
            created => return created.context_with("create", || self.path.join(path)),
        }
        let (name, _way) = last(path).unwrap_or_default();
        match fs::unlinkat(parent, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {
                fs::unlinkat(parent, name, AtFlags::REMOVEDIR).map_err(|_not_empty: Errno| {
                    member_error(path, "would replace a directory that is not empty".into())
                })?;
                self.directories.remove(path);
            }
            removed => removed.context_with("replace", || self.path.join(path))?,
        }
        if let Some(links) = &mut self.links {
            links.remove(path);
        }
        // The open descriptors may lead through what was just removed.
        self.parents.clear();
        create().context_with("create", || self.path.join(path))
    }
}

/// Returns the last component of a path, and how many lead to it; `None` for the empty path.
fn last(path: &RelPath) -> Option<(&OsStr, usize)> {
    let mut way = path.components();
    let name = way.next_back()?;
    Some((name, way.count()))
}

/// Returns whether a target has a `..` behind a name.
fn turns_back(target: &OsStr) -> bool {
    let mut components = Path::new(target).components();
    components.any(|component| matches!(component, Component::Normal(_)))
        && components.any(|component| component == Component::ParentDir)
}

/// Set-id and sticky bits are nobody's.
fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o777)
}

fn member_error(path: &RelPath, problem: String) -> Error {
    Error::archive(problem).of_member(path.as_bytes())
}

/// A regular file of a [`Tree`] that is being written.
pub(crate) struct TreeFile<'a> {
    file: File,
    root: Arc<Path>,
    path: &'a RelPath,
    chmod: Option<Mode>,
    mtime: Option<Mtime>,
}

impl TreeFile<'_> {
    fn shown(&self) -> PathBuf {
        self.root.join(self.path)
    }

    /// Appends content.
    pub(crate) fn write(&mut self, content: &[u8]) -> Result<()> {
        self.file
            .write_all(content)
            .context_with("write", || self.shown())
    }

    /// Leaves a hole.
    pub(crate) fn skip(&mut self, bytes: u64) -> Result<()> {
        let bytes = i64::try_from(bytes)
            .map_err(std::io::Error::other)
            .context_with("write", || self.shown())?;
        self.file
            .seek(SeekFrom::Current(bytes))
            .context_with("write", || self.shown())?;
        Ok(())
    }

    /// Ends the file at the current position and gives it its permissions and time.
    pub(crate) fn finish_sparse(mut self) -> Result<()> {
        let end = self
            .file
            .stream_position()
            .context_with("write", || self.shown())?;
        self.file
            .set_len(end)
            .context_with("write", || self.shown())?;
        self.finish()
    }

    /// Gives the file its permissions and time.
    pub(crate) fn finish(self) -> Result<()> {
        if let Some(mode) = self.chmod {
            fs::fchmod(self.file.as_fd(), mode)
                .context_with("set permissions of", || self.shown())?;
        }
        if let Some(mtime) = self.mtime {
            fs::futimens(self.file.as_fd(), &mtime.timestamps())
                .context_with("set the time of", || self.shown())?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the disk directly")]
mod tests {
    use super::{Attributes, Mtime, Tree};
    use crate::{error::Error, rel_path::RelPath};
    use std::{
        ffi::OsStr,
        fs,
        os::unix::fs::{MetadataExt, PermissionsExt},
        path::Path,
    };

    const FILE: Attributes = Attributes {
        mode: 0o644,
        mtime: None,
    };

    fn rel(path: &str) -> RelPath {
        RelPath::parse(path.as_bytes()).unwrap()
    }

    fn write(tree: &mut Tree, path: &str) -> Result<(), Error> {
        let path = rel(path);
        let mut file = tree.file(&path, FILE)?;
        file.write(b"inside")?;
        file.finish()
    }

    /// A tree at `root` beside `outside/canary`.
    fn sandbox() -> (tempfile::TempDir, Tree) {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join("outside")).unwrap();
        fs::create_dir(temp.path().join("root")).unwrap();
        fs::write(temp.path().join("outside/canary"), "alive").unwrap();
        let tree = Tree::open(&temp.path().join("root")).unwrap();
        (temp, tree)
    }

    fn canary_is_alive(temp: &Path) {
        assert_eq!(fs::read_dir(temp.join("outside")).unwrap().count(), 1);
        assert_eq!(
            fs::read_to_string(temp.join("outside/canary")).unwrap(),
            "alive"
        );
    }

    #[test]
    fn a_file_without_a_name_gets_one_in_place_of_a_link() {
        let temp = tempfile::tempdir().unwrap();
        let mut tree = Tree::open(temp.path()).unwrap();
        let path = RelPath::parse(b"d/f").unwrap();
        tree.symlink(&path, OsStr::new("../outside"), None).unwrap();
        let mut file = crate::fs::create_unnamed(temp.path()).unwrap();
        std::io::Write::write_all(&mut file, b"content").unwrap();
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
        let mtime = Some(Mtime {
            seconds: 1_000_000_000,
            nanos: 5,
        });
        let mode = 0o6751;
        tree.adopt(&path, file, Attributes { mode, mtime }).unwrap();
        let there = fs::symlink_metadata(temp.path().join("d/f")).unwrap();
        assert!(there.is_file());
        assert_eq!(there.mode() & 0o7777, 0o751);
        assert_eq!((there.mtime(), there.mtime_nsec()), (1_000_000_000, 5));
        assert_eq!(fs::read(temp.path().join("d/f")).unwrap(), b"content");
        assert!(!temp.path().join("outside").exists());
    }

    #[test]
    fn nothing_is_written_through_a_link_that_leaves() {
        for target in ["../outside", "/", "in/../../outside"] {
            let (temp, mut tree) = sandbox();
            write(&mut tree, "in/f").unwrap();
            tree.symlink(&rel("link"), OsStr::new(target), None)
                .unwrap();
            let err = write(&mut tree, "link/canary").unwrap_err();
            assert!(matches!(&err, Error::Archive { .. }), "{target}: {err:?}");
            canary_is_alive(temp.path());
        }
    }

    #[test]
    fn two_hops_do_not_leave_either() {
        let (temp, mut tree) = sandbox();
        tree.directory(&rel("a/b"), FILE).unwrap();
        tree.symlink(&rel("a/b/up"), OsStr::new(".."), None)
            .unwrap();
        tree.symlink(&rel("hop"), OsStr::new("a/b/up/../../outside"), None)
            .unwrap();
        assert!(write(&mut tree, "hop/canary").is_err());
        canary_is_alive(temp.path());
    }

    #[test]
    fn external_links_are_told_from_internal_ones_where_they_lead() {
        for (target, external) in [
            ("f", false),
            ("../f", false),
            ("sub/../../f", false),
            ("no/such", false),
            ("link", false), // to itself
            ("../up/deep/f", false),
            ("../up/../f", true), // the way up is longer than it looks
            ("../..", true),
            ("no/../../../f", true),
            ("no/../f", true), // nobody knows where `no` will be
            ("/", true),
            ("/f", true),
        ] {
            let (_temp, mut tree) = sandbox();
            tree.deny_external_symlinks();
            for path in ["f", "deep/f", "a/sub/f", "a/f"] {
                write(&mut tree, path).unwrap();
            }
            tree.symlink(&rel("up"), OsStr::new("."), None).unwrap();
            tree.symlink(&rel("a/link"), OsStr::new(target), None)
                .unwrap();
            // Replaced links do not count.
            tree.symlink(&rel("a/other"), OsStr::new("/"), None)
                .unwrap();
            tree.symlink(&rel("a/other"), OsStr::new("f"), None)
                .unwrap();
            let finished = tree.finish();
            assert_eq!(finished.is_err(), external, "{target}: {finished:?}");
        }
    }

    #[test]
    fn a_link_that_is_higher_up_than_it_looks_is_told_from_an_internal_one() {
        for (target, external) in [("no/such", false), ("no/../../escape", true), ("..", true)] {
            let (_temp, mut tree) = sandbox();
            tree.deny_external_symlinks();
            write(&mut tree, "a/f").unwrap();
            for (path, target) in [("a/l", ".."), ("a/l/x", target)] {
                tree.symlink(&rel(path), OsStr::new(target), None).unwrap();
            }
            let finished = tree.finish();
            assert_eq!(finished.is_err(), external, "{target}: {finished:?}");
        }
    }

    #[test]
    fn ways_through_links_are_known() {
        let (_temp, mut tree) = sandbox();
        write(&mut tree, "a/b/f").unwrap();
        tree.symlink(&rel("l"), OsStr::new("a"), None).unwrap();
        for (path, through_link) in [
            ("f", false),
            ("l", false),
            ("a/b/f", false),
            ("l/f", true),
            ("l/b/c", true),
            ("l/no/f", true),
            ("no/f", false),
        ] {
            assert_eq!(
                tree.leads_through_link(&rel(path)).unwrap(),
                through_link,
                "{path}"
            );
        }
    }

    #[test]
    fn a_link_inside_the_tree_is_walked_through() {
        let (temp, mut tree) = sandbox();
        write(&mut tree, "usr/lib/a").unwrap();
        tree.symlink(&rel("usr/lib64"), OsStr::new("lib"), None)
            .unwrap();
        write(&mut tree, "usr/lib64/b/c").unwrap();
        assert!(temp.path().join("root/usr/lib/b/c").is_file());
    }

    #[test]
    fn an_existing_link_is_replaced_and_not_written_through() {
        let (temp, mut tree) = sandbox();
        tree.symlink(&rel("f"), OsStr::new("../outside/canary"), None)
            .unwrap();
        write(&mut tree, "f").unwrap();
        canary_is_alive(temp.path());
        assert!(!temp.path().join("root/f").is_symlink());
    }

    #[test]
    fn a_directory_that_became_a_link_is_not_used_by_its_old_descriptor() {
        let (temp, mut tree) = sandbox();
        tree.directory(&rel("d"), FILE).unwrap();
        write(&mut tree, "d/x").unwrap();
        tree.directory(&rel("e"), FILE).unwrap();
        tree.symlink(&rel("e"), OsStr::new("d"), None).unwrap();
        write(&mut tree, "e/y").unwrap();
        assert!(temp.path().join("root/d/y").is_file());
    }

    #[test]
    fn hard_links_lead_to_regular_files_of_the_tree_only() {
        let (temp, mut tree) = sandbox();
        write(&mut tree, "f").unwrap();
        tree.hard_link(&rel("g"), &rel("f")).unwrap();
        tree.hard_link(&rel("f"), &rel("f")).unwrap();
        assert_eq!(fs::metadata(temp.path().join("root/g")).unwrap().nlink(), 2);
        tree.symlink(&rel("s"), OsStr::new("../outside/canary"), None)
            .unwrap();
        for target in ["s", "missing", "no/such"] {
            assert!(
                matches!(
                    tree.hard_link(&rel("h"), &rel(target)),
                    Err(Error::Archive { .. })
                ),
                "{target}"
            );
        }
        tree.symlink(&rel("out"), OsStr::new("../outside"), None)
            .unwrap();
        assert!(tree.hard_link(&rel("h"), &rel("out/canary")).is_err());
    }

    #[test]
    fn set_id_bits_are_dropped_and_read_only_directories_filled() {
        let (temp, mut tree) = sandbox();
        let mtime = Some(Mtime {
            seconds: 1_000_000_000,
            nanos: 123_456_789,
        });
        tree.directory(
            &rel("d"),
            Attributes {
                mode: 0o2555,
                mtime,
            },
        )
        .unwrap();
        tree.file(
            &rel("d/suid"),
            Attributes {
                mode: 0o4755,
                mtime,
            },
        )
        .unwrap()
        .finish()
        .unwrap();
        tree.finish().unwrap();
        let dir = fs::metadata(temp.path().join("root/d")).unwrap();
        let file = fs::metadata(temp.path().join("root/d/suid")).unwrap();
        assert_eq!(
            (
                dir.permissions().mode() & 0o7777,
                file.permissions().mode() & 0o7777
            ),
            (0o555, 0o755)
        );
        assert_eq!(
            (dir.mtime(), dir.mtime_nsec(), file.mtime()),
            (1_000_000_000, 123_456_789, 1_000_000_000)
        );
    }

    #[test]
    fn holes_stay_holes() {
        let (temp, mut tree) = sandbox();
        let path = rel("sparse");
        let mut file = tree.file(&path, FILE).unwrap();
        file.write(&[1; 4096]).unwrap();
        file.skip(1 << 20).unwrap();
        file.finish_sparse().unwrap();
        let meta = fs::metadata(temp.path().join("root/sparse")).unwrap();
        assert_eq!(meta.len(), 4096 + (1 << 20));
        assert!(meta.blocks() * 512 < 65536, "{} blocks", meta.blocks());
    }

    #[test]
    fn paths_deeper_than_the_cache_work() {
        let (temp, mut tree) = sandbox();
        let deep = "d/".repeat(150) + "f";
        write(&mut tree, &deep).unwrap();
        write(&mut tree, &(deep.clone() + "2")).unwrap();
        assert!(temp.path().join("root").join(deep).is_file());
    }
}
