//! From a directory on disk to a layer of an image, the same bytes on every machine.
//!
//! Members are sorted by name, directory by directory, and belong to root. Hard links within the directory stay links.

use super::{member::Member, writer::TarWriter};
use crate::{
    archive::{LAYER_MODES, cores, repack::gzip::Gzip},
    error::{Error, Result},
    fs::{Context, Dir},
    rel_path::RelPath,
};
use rustix::fs::{FileType, Stat};
use std::{
    collections::HashMap,
    ffi::OsStr,
    io::{self, Write},
    os::unix::ffi::OsStrExt,
    path::Path,
};
use tar::EntryType;

/// Begins the names by which layers remove what is below them.
const WHITEOUT: &[u8] = b".wh.";

/// How a directory becomes a layer.
pub(crate) struct LayerPack<'a> {
    /// Where in the image the content goes. The directories on the way are in the layer, too: it may be used alone.
    pub(crate) directory: &'a RelPath,
    /// Which modes and times files get.
    pub(crate) stamp: Stamp,
    /// Asked before each member whether to go on.
    pub(crate) go_on: &'a (dyn Fn() -> bool + Sync),
}

/// Which modes and times files get. Directories get the epoch: the time of those that are in no archive is that of their
/// making.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stamp {
    /// Those that they have.
    Unpacked,
    /// What BuildKit gives a download: 0600 and the epoch.
    Download,
}

impl Stamp {
    fn of(self, stat: &Stat) -> (u32, i64) {
        match self {
            Self::Download => (0o600, 0),
            Self::Unpacked => (stat.st_mode & LAYER_MODES, stat.st_mtime),
        }
    }
}

/// Writes everything in `tree` to `out`, a tar.
///
/// # Errors
/// [`Error::Fs`], also for what is neither file, directory nor link; [`Error::Archive`] for a name that would remove
/// something, and for a file that grows or shrinks meanwhile; [`Error::Cancelled`].
pub(crate) fn pack_layer<W: Write>(tree: &Path, pack: &LayerPack<'_>, out: W) -> Result<()> {
    let mut packing = Packing {
        pack,
        out: TarWriter::new(out, tree),
        links: HashMap::new(),
    };
    let mut way = RelPath::default();
    for component in pack.directory.components() {
        way = way.join(component);
        refuse_whiteout(component, way.as_bytes())?;
        packing.directory(way.as_bytes(), 0o755)?;
    }
    packing.children(&Dir::open(tree)?, way.as_bytes())?;
    packing.out.end_archive()
}

struct Packing<'a, W> {
    pack: &'a LayerPack<'a>,
    out: TarWriter<W>,
    /// The first names of files that have several, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> Packing<'_, W> {
    fn directory(&mut self, name: &[u8], mode: u32) -> Result<()> {
        let member = Member {
            kind: EntryType::Directory,
            mode,
            ..Member::file([name, b"/"].concat())
        };
        self.out.append(&member, io::empty())
    }

    fn children(&mut self, dir: &Dir, name: &[u8]) -> Result<()> {
        let mut children = dir.names()?;
        children.sort();
        for child in children {
            if !(self.pack.go_on)() {
                return Err(Error::Cancelled);
            }
            let slash: &[u8] = if name.is_empty() { b"" } else { b"/" };
            let name = [name, slash, child.as_bytes()].concat();
            refuse_whiteout(&child, &name)?;
            self.child(dir, &child, name)?;
        }
        Ok(())
    }

    fn child(&mut self, dir: &Dir, child: &OsStr, name: Vec<u8>) -> Result<()> {
        let path = || dir.path().join(child);
        let stat = dir.stat(child)?;
        let stat = stat
            .ok_or(io::ErrorKind::NotFound)
            .context_with("pack", path)?;
        let (mode, mtime) = self.pack.stamp.of(&stat);
        let member = Member {
            mode,
            mtime,
            ..Member::file(name)
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                self.directory(&member.name, stat.st_mode & LAYER_MODES)?;
                self.children(&dir.open_child(child)?, &member.name)
            }
            FileType::RegularFile => {
                let file = dir.open_file(child)?;
                let size = file.metadata().context_with("look at", path)?.len();
                match self.other_name(&stat, &member.name) {
                    Some(other) => self.link(EntryType::Link, other, member),
                    None => self.out.append(&Member { size, ..member }, file),
                }
            }
            FileType::Symlink => {
                let target = dir.read_link(child)?;
                let member = Member {
                    mode: 0o777,
                    ..member
                };
                self.link(EntryType::Symlink, target, member)
            }
            _ => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "it is neither file, directory nor link",
            ))
            .context_with("pack", path),
        }
    }

    fn link(&mut self, kind: EntryType, target: Vec<u8>, member: Member) -> Result<()> {
        let member = Member {
            kind,
            link: Some(target),
            ..member
        };
        self.out.append(&member, io::empty())
    }

    /// Returns the name under which a file is in the layer already.
    fn other_name(&mut self, stat: &Stat, name: &[u8]) -> Option<Vec<u8>> {
        if stat.st_nlink < 2 {
            return None;
        }
        let identity = (stat.st_dev, stat.st_ino);
        let known = self.links.get(&identity).cloned();
        if known.is_none() {
            self.links.insert(identity, name.to_vec());
        }
        known
    }
}

fn refuse_whiteout(component: &OsStr, name: &[u8]) -> Result<()> {
    if !component.as_bytes().starts_with(WHITEOUT) {
        return Ok(());
    }
    let problem =
        "no layer of an image can have it: names that begin with `.wh.` remove files there";
    Err(Error::Archive {
        member: None,
        problem: format!("`{}`: {problem}", crate::rel_path::shown_name(name)),
    })
}

/// Writes files to `out`, a tar, as they are listed.
///
/// # Errors
/// [`Error::Fs`]; [`Error::Archive`] for a file that grows or shrinks meanwhile.
pub(crate) fn pack_files<W: Write>(files: &[(&str, &Path)], out: W, path: &Path) -> Result<()> {
    let mut out = TarWriter::new(out, path);
    for (name, path) in files {
        let file = crate::fs::open(path)?;
        let member = Member {
            size: file.metadata().context("look at", path)?.len(),
            ..Member::file(name.as_bytes().to_vec())
        };
        out.append(&member, file)?;
    }
    out.end_archive()
}

/// A layer is compressed while its fetch still keeps the cores busy: level 2 takes three quarters of the time of level 3,
/// that of the `zstd` program, for a toolchain that becomes 5 % larger.
const LAYER_LEVEL: i32 = 2;

/// A writer that compresses, the same bytes for the same content on every machine, or not.
pub(crate) enum Compressed<W: Write> {
    /// Does not.
    Plain(W),
    /// By libdeflate, in several threads.
    Gzip(Gzip<W>),
    /// By Zstandard, in several threads.
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Compressed<W> {
    /// Compresses by gzip.
    pub(crate) fn gzip(out: W) -> io::Result<Self> {
        Gzip::start(out, cores()).map(Self::Gzip)
    }

    /// Compresses by Zstandard.
    pub(crate) fn zstd(out: W) -> io::Result<Self> {
        let mut encoder = zstd::Encoder::new(out, LAYER_LEVEL)?;
        // The number of workers does not change the bytes, but whether there are any does.
        encoder.multithread(u32::try_from(cores()).unwrap_or(1).max(1))?;
        encoder.include_checksum(true)?;
        Ok(Self::Zstd(encoder))
    }

    /// Ends the content, and returns what it was written to.
    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(out) => Ok(out),
            Self::Gzip(gzip) => gzip.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Compressed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Gzip(gzip) => gzip.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            Self::Gzip(gzip) => gzip.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the disk directly")]
mod tests {
    use super::{Compressed, LayerPack, Stamp, pack_layer};
    use crate::rel_path::RelPath;
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
    use std::{
        fs,
        io::{Read, Write},
        os::unix::fs::{PermissionsExt, symlink},
        path::Path,
        time::{Duration, SystemTime},
    };

    type Make = fn(Vec<u8>) -> std::io::Result<Compressed<Vec<u8>>>;
    type Unpack = fn(&[u8]) -> Vec<u8>;

    const OLD: u64 = 1_000_000_000;

    fn pack(tree: &Path, directory: &str, stamp: Stamp) -> Result<Vec<String>, String> {
        let mut tar = Vec::new();
        let directory = RelPath::parse(directory.as_bytes()).unwrap();
        let pack = LayerPack {
            directory: &directory,
            stamp,
            go_on: &|| true,
        };
        pack_layer(tree, &pack, &mut tar).map_err(|err| err.to_string())?;
        let mut archive = tar::Archive::new(&tar[..]);
        let members = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            let link = entry.link_name_bytes().unwrap_or_default();
            format!(
                "{} {:o} {} {} {}",
                entry.path_bytes().escape_ascii(),
                header.mode().unwrap(),
                header.uid().unwrap() + header.gid().unwrap(),
                header.mtime().unwrap(),
                link.escape_ascii(),
            )
        });
        Ok(members.collect())
    }

    fn tree(names: &[(&str, u32)]) -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        for (name, mode) in names {
            let path = temp.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, name).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
            let old = SystemTime::UNIX_EPOCH + Duration::from_secs(OLD);
            fs::File::open(path).unwrap().set_modified(old).unwrap();
        }
        temp
    }

    #[test]
    fn members_are_sorted_and_say_nothing_of_the_machine() {
        let temp = tree(&[("b/run", 0o777), ("b/secret", 0o600), ("b.c", 0o664)]);
        fs::hard_link(temp.path().join("b/run"), temp.path().join("c")).unwrap();
        fs::set_permissions(temp.path().join("b"), fs::Permissions::from_mode(0o775)).unwrap();
        symlink("run", temp.path().join("b/a")).unwrap();
        let old = Timespec {
            tv_sec: i64::try_from(OLD).unwrap(),
            tv_nsec: 999_999_999,
        };
        let times = Timestamps {
            last_access: old,
            last_modification: old,
        };
        let link = temp.path().join("b/a");
        rustix::fs::utimensat(CWD, &link, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        assert_eq!(
            pack(temp.path(), "f/g", Stamp::Unpacked).unwrap(),
            [
                "f/ 755 0 0 ",
                "f/g/ 755 0 0 ",
                "f/g/b/ 755 0 0 ",
                "f/g/b/a 777 0 1000000000 run",
                "f/g/b/run 755 0 1000000000 ",
                "f/g/b/secret 600 0 1000000000 ",
                "f/g/b.c 644 0 1000000000 ",
                "f/g/c 755 0 1000000000 f/g/b/run",
            ]
        );
    }

    #[test]
    fn downloads_are_stamped_as_buildkit_does_it() {
        let temp = tree(&[("x.tar.gz", 0o644)]);
        let members = pack(temp.path(), "", Stamp::Download).unwrap();
        assert_eq!(members, ["x.tar.gz 600 0 0 "]);
    }

    #[test]
    fn names_that_would_remove_something_are_refused() {
        for name in [".wh.x", "a/.wh..wh..opq", ".wh.d/x"] {
            let temp = tree(&[(name, 0o644)]);
            let err = pack(temp.path(), "f", Stamp::Download).unwrap_err();
            assert!(err.contains("names that begin with `.wh.`"), "{err}");
        }
        assert!(pack(tree(&[]).path(), "a/.wh.b", Stamp::Download).is_err());
    }

    #[test]
    fn what_is_compressed_can_be_read_and_is_always_the_same() {
        let content: Vec<u8> = (0..900_000u32)
            .flat_map(|n| (n / 7).to_le_bytes())
            .collect();
        let makes: [(Make, Unpack); 2] = [
            (Compressed::gzip, |bytes| {
                let mut content = Vec::new();
                flate2::read::MultiGzDecoder::new(bytes)
                    .read_to_end(&mut content)
                    .unwrap();
                content
            }),
            (Compressed::zstd, |bytes| zstd::decode_all(bytes).unwrap()),
        ];
        for (make, unpack) in makes {
            for size in [0, 1, content.len()] {
                let packed = [1000, 1 << 20, 77_777_777].map(|chunk| {
                    let mut out = make(Vec::new()).unwrap();
                    content[..size]
                        .chunks(chunk)
                        .for_each(|part| out.write_all(part).unwrap());
                    out.finish().unwrap()
                });
                assert!(packed[0] == packed[1] && packed[1] == packed[2]);
                assert!(unpack(&packed[0]) == content[..size]);
            }
        }
    }
}
