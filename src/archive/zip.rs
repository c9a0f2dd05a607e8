//! Extraction of zip archives, which have their table of contents at the end: from a file, several members at a time.

use crate::{
    archive::{Job, limits::Limits, tar::read_error},
    error::{Error, Result},
    fs::{Attributes, Mtime, Tree, TreeFile, umask},
    rel_path::RelPath,
};
use libdeflater::{Crc, Decompressor};
use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::{ffi::OsStrExt, fs::FileExt},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};
use zip::{CompressionMethod, System, ZipArchive, result::ZipError};

/// Deflated members up to this size, in bytes, are inflated whole, at nearly twice the speed of a streaming inflate.
const WHOLE: u64 = 1 << 20;

/// Size of one write, in bytes.
const WRITE: usize = 256 * 1024;

/// The longest target of a symbolic link, in bytes: PATH_MAX.
const MAX_TARGET: u64 = 4096;

/// File type bits of a Unix mode.
const S_IFMT: u32 = 0o170_000;

/// A file that several threads read, each at its own position.
#[derive(Clone)]
pub(super) struct SharedFile {
    file: Arc<File>,
    position: u64,
    length: u64,
}

impl SharedFile {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self {
            file: Arc::new(file),
            position: 0,
            length,
        })
    }
}

impl Read for SharedFile {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buf, self.position)?;
        self.position += length as u64;
        Ok(length)
    }
}

impl Seek for SharedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MemberKind {
    File,
    Directory,
    Symlink,
}

/// One line of the table of contents.
pub(super) struct Member {
    pub(super) index: usize,
    pub(super) name: Vec<u8>,
    pub(super) kind: MemberKind,
    pub(super) mode: u32,
    pub(super) mtime: Option<Mtime>,
    /// The permission bits as they are, in archives made on Unix.
    pub(super) unix_mode: Option<u32>,
    /// The DOS time alone, taken for UTC.
    pub(super) dos_mtime: Option<Mtime>,
    pub(super) size: u64,
}

/// Opens an archive and reads its table of contents, in its order.
pub(super) fn open(file: File, limits: &Limits) -> Result<(ZipArchive<SharedFile>, Vec<Member>)> {
    let file = SharedFile::new(file).map_err(read_error)?;
    let packed = file.length;
    let archive = ZipArchive::new(file).map_err(zip_error)?;
    limits.check_entries(archive.len() as u64)?;
    let members = (0..archive.len())
        .map(|index| member(&archive, index))
        .collect::<Result<Vec<_>>>()?;
    let expanded = members.iter().map(|member| member.size);
    limits.check_expanded(expanded.fold(0, u64::saturating_add), packed)?;
    Ok((archive, members))
}

fn member(archive: &ZipArchive<SharedFile>, index: usize) -> Result<Member> {
    let entry = archive.by_index_data(index).map_err(zip_error)?;
    // Unix tools write names as they are; others in code page 437 unless flagged as UTF-8.
    let name = match entry.system() {
        System::Unix => entry.name_raw().to_vec(),
        _ => entry
            .name()
            .map_err(zip_error)?
            .replace('\\', "/")
            .into_bytes(),
    };
    let refused = |problem: String| Error::Archive {
        member: Some(name.escape_ascii().to_string()),
        problem,
    };
    if entry.encrypted() {
        return Err(refused("encrypted members cannot be extracted".into()));
    }
    let directory = name.ends_with(b"/");
    let attributes = entry.external_attributes();
    let kind = match (entry.system() == System::Unix).then_some((attributes >> 16) & S_IFMT) {
        _ if directory => MemberKind::Directory,
        Some(0o120_000) => MemberKind::Symlink,
        Some(0o040_000) => MemberKind::Directory,
        Some(0 | 0o100_000) | None => MemberKind::File,
        Some(other) => return Err(refused(format!("unsupported file mode {other:o}"))),
    };
    let mode = permissions(entry.system(), attributes, kind == MemberKind::Directory);
    let dos_mtime = entry.last_modified().and_then(from_dos);
    let mtime = entry_timestamp(archive, index)?.or(dos_mtime);
    let size = entry.size();
    Ok(Member {
        index,
        name,
        kind,
        mode,
        mtime,
        unix_mode: (entry.system() == System::Unix).then_some((attributes >> 16) & 0o7777),
        dos_mtime,
        size,
    })
}

/// Returns the permission bits that unzip gives a member. Archives made on Unix have them; for others unzip believes
/// the Unix half of the attributes only if its owner bits agree with the DOS half.
fn permissions(system: System, attributes: u32, directory: bool) -> u32 {
    let unix = (attributes >> 16) & 0o777;
    let owner = 4 | if attributes & 1 == 0 { 2 } else { 0 } | u32::from(directory);
    if system == System::Unix || unix >> 6 == owner {
        return unix;
    }
    (owner * 0o111) & !umask().bits()
}

/// Time of the extended timestamp field ("UT"), which is in UTC, if the member has one.
fn entry_timestamp(archive: &ZipArchive<SharedFile>, index: usize) -> Result<Option<Mtime>> {
    let mut archive = archive.clone();
    let entry = archive.by_index_raw(index).map_err(zip_error)?;
    let seconds = entry.extra_data_fields().find_map(|field| match field {
        zip::extra_fields::ExtraField::ExtendedTimestamp(stamp) => stamp.mod_time(),
        _ => None,
    });
    Ok(seconds.map(|seconds| Mtime {
        seconds: i64::from(seconds),
        nanos: 0,
    }))
}

/// A DOS time is in nobody knows which zone and taken for UTC, as containers have it.
fn from_dos(dos: zip::DateTime) -> Option<Mtime> {
    let dos = Some(dos).filter(zip::DateTime::is_valid)?;
    let days = days_from_epoch(
        i64::from(dos.year()),
        i64::from(dos.month()),
        i64::from(dos.day()),
    );
    let seconds = ((days * 24 + i64::from(dos.hour())) * 60 + i64::from(dos.minute())) * 60
        + i64::from(dos.second());
    Some(Mtime { seconds, nanos: 0 })
}

/// Days from 1970-01-01 to a date of the Gregorian calendar: years begin in March, so that the leap day is the last.
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469
}

/// Extracts all members with several threads. Of members with the same name the last one counts.
pub(super) fn extract(file: File, job: &Job, threads: usize) -> Result<Vec<String>> {
    let root = &job.directory;
    let (archive, members) = open(file, &job.limits)?;
    let mut tree = Tree::open(root)?;
    if !job.limits.external_symlinks {
        tree.deny_external_symlinks();
    }
    let mut last: HashMap<RelPath, &Member> = HashMap::new();
    let mut stripped = None;
    for member in &members {
        if stripped.is_none() && member.name.starts_with(b"/") {
            stripped = Some(format!(
                "leading `/` is removed from member names, such as `{}`",
                member.name.escape_ascii()
            ));
        }
        last.insert(member_path(member)?, member);
    }
    refuse_members_below_files(&last)?;
    let mut placed: Vec<(RelPath, &Member)> = last.into_iter().collect();
    placed.sort_by_key(|(_, member)| member.index);
    let (mut files, rest): (Vec<_>, Vec<_>) = placed
        .into_iter()
        .partition(|(_, member)| member.kind == MemberKind::File);
    for (path, member) in rest
        .iter()
        .filter(|(_, member)| member.kind == MemberKind::Directory)
    {
        tree.directory(
            path,
            Attributes {
                mode: member.mode,
                mtime: member.mtime,
            },
        )?;
    }
    // The largest first, so that no thread is left with it at the end.
    files.sort_by_key(|(_, member)| std::cmp::Reverse(member.size));
    extract_files(&archive, &files, root, threads)?;
    // Links come last: no file is written through one.
    let mut archive = archive;
    for (path, member) in rest
        .iter()
        .filter(|(_, member)| member.kind == MemberKind::Symlink)
    {
        let target = link_target(&mut archive, member)?;
        tree.symlink(path, OsStr::from_bytes(&target), None)?;
    }
    tree.finish()?;
    Ok(stripped.into_iter().collect())
}

/// A directory that is also a file would come out as one or the other, depending on which thread is faster.
fn refuse_members_below_files(members: &HashMap<RelPath, &Member>) -> Result<()> {
    let mut seen = HashSet::new();
    for path in members.keys() {
        let mut above = path.parent();
        while let Some(parent) = above
            && seen.insert(parent.clone())
        {
            if members
                .get(&parent)
                .is_some_and(|member| member.kind != MemberKind::Directory)
            {
                let problem = format!("is below `{parent}`, which is not a directory");
                return Err(Error::Archive {
                    member: Some(path.to_string()),
                    problem,
                });
            }
            above = parent.parent();
        }
    }
    Ok(())
}

fn member_path(member: &Member) -> Result<RelPath> {
    let shown = || Some(member.name.escape_ascii().to_string());
    let path = RelPath::strip_root(&member.name).map_err(|err| Error::Archive {
        member: shown(),
        problem: format!("the name {err}"),
    })?;
    if path.is_empty() && member.kind != MemberKind::Directory {
        return Err(Error::Archive {
            member: shown(),
            problem: "would replace the destination itself".into(),
        });
    }
    Ok(path)
}

/// Reads the target of a symbolic link, which is its content.
pub(super) fn link_target(
    archive: &mut ZipArchive<SharedFile>,
    member: &Member,
) -> Result<Vec<u8>> {
    let mut target = Vec::new();
    let refused = |problem: String| Error::Archive {
        member: Some(member.name.escape_ascii().to_string()),
        problem,
    };
    let entry = archive
        .by_index(member.index)
        .map_err(|err| refused(err.to_string()))?;
    entry
        .take(MAX_TARGET)
        .read_to_end(&mut target)
        .map_err(|err| refused(err.to_string()))?;
    if target.is_empty() || target.len() as u64 == MAX_TARGET || target.contains(&0) {
        return Err(refused("symbolic link without a usable target".into()));
    }
    Ok(target)
}

/// Extracts regular files on several threads, each with a view of its own of archive and tree. Of the
/// errors seen, that of the member that comes first is told.
fn extract_files(
    archive: &ZipArchive<SharedFile>,
    files: &[(RelPath, &Member)],
    root: &Path,
    threads: usize,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    let work = || -> Result<(), (usize, Error)> {
        let mut worker = Worker::new(archive, root).map_err(|err| (0, err))?;
        while let Some((path, member)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            worker
                .file(path, member)
                .map_err(|err| (member.index, err))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.min(files.len()) {
            scope.spawn(|| {
                if let Err(err) = work() {
                    next.fetch_add(files.len(), Ordering::Relaxed);
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    if failed.as_ref().is_none_or(|(index, _)| *index > err.0) {
                        *failed = Some(err);
                    }
                }
            });
        }
    });
    failed
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .map_or(Ok(()), |(_, err)| Err(err))
}

/// One thread's means to extract files.
struct Worker {
    archive: ZipArchive<SharedFile>,
    tree: Tree,
    inflate: Decompressor,
    packed: Vec<u8>,
    buffer: Vec<u8>,
}

impl Worker {
    fn new(archive: &ZipArchive<SharedFile>, root: &Path) -> Result<Self> {
        let tree = Tree::open(root)?;
        let (packed, buffer) = (Vec::new(), vec![0; WRITE]);
        Ok(Self {
            archive: archive.clone(),
            tree,
            inflate: Decompressor::new(),
            packed,
            buffer,
        })
    }

    fn file(&mut self, path: &RelPath, member: &Member) -> Result<()> {
        let mut file = self.tree.file(
            path,
            Attributes {
                mode: member.mode,
                mtime: member.mtime,
            },
        )?;
        let refused = |err: &dyn std::error::Error| Error::Archive {
            member: Some(path.to_string()),
            problem: err.to_string(),
        };
        let raw = self
            .archive
            .by_index_raw(member.index)
            .map_err(|err| refused(&err))?;
        let (start, packed_size) = (raw.data_start(), raw.compressed_size());
        let (method, crc) = (raw.compression(), raw.crc32());
        drop(raw);
        match start {
            Some(start)
                if method == CompressionMethod::Deflated
                    && member.size <= WHOLE
                    && packed_size <= 2 * WHOLE =>
            {
                let source = self.archive.clone().into_inner();
                self.inflate_whole(&source, start, packed_size, member.size)
                    .map_err(|err| refused(&err))?;
                let mut sum = Crc::new();
                sum.update(&self.buffer);
                if sum.sum() != crc {
                    return Err(refused(&io::Error::other(
                        "wrong CRC-32: the content is damaged",
                    )));
                }
                file.write(&self.buffer)?;
            }
            _ => self.copy(member, &mut file, path)?,
        }
        file.finish()
    }

    /// Inflates a member into the buffer.
    fn inflate_whole(
        &mut self,
        source: &SharedFile,
        start: u64,
        packed_size: u64,
        size: u64,
    ) -> io::Result<()> {
        let length = |size: u64| usize::try_from(size).map_err(io::Error::other);
        self.packed.resize(length(packed_size)?, 0);
        source.file.read_exact_at(&mut self.packed, start)?;
        self.buffer.resize(length(size)?, 0);
        let inflated = self
            .inflate
            .deflate_decompress(&self.packed, &mut self.buffer)
            .map_err(io::Error::other)?;
        if inflated as u64 == size {
            Ok(())
        } else {
            Err(io::Error::other("the content is shorter than announced"))
        }
    }

    /// Copies a member of any method and size; the zip crate checks its CRC-32.
    fn copy(&mut self, member: &Member, file: &mut TreeFile, path: &RelPath) -> Result<()> {
        let refused = |problem: String| Error::Archive {
            member: Some(path.to_string()),
            problem,
        };
        self.buffer.resize(WRITE, 0);
        let mut entry = self
            .archive
            .by_index(member.index)
            .map_err(|err| refused(err.to_string()))?;
        let mut written = 0;
        loop {
            match entry
                .read(&mut self.buffer)
                .map_err(|err| refused(err.to_string()))?
            {
                0 if written == member.size => return Ok(()),
                0 => {
                    return Err(refused(format!(
                        "has {written} bytes, announced were {}",
                        member.size
                    )));
                }
                length => {
                    written += length as u64;
                    if written > member.size {
                        return Err(refused(format!(
                            "has more than the announced {} bytes",
                            member.size
                        )));
                    }
                    file.write(&self.buffer[..length])?;
                }
            }
        }
    }
}

fn zip_error(err: ZipError) -> Error {
    match err {
        ZipError::Io(err) => read_error(err),
        err => Error::archive(format!("the archive is damaged: {err}")),
    }
}

#[cfg(test)]
mod tests {
    use super::{days_from_epoch, permissions};
    use zip::System;

    #[test]
    fn dates_become_days() {
        for (date, days) in [
            ((1970, 1, 1), 0),
            ((1980, 1, 1), 3652),
            ((2000, 2, 29), 11016),
            ((2107, 12, 31), 50402),
        ] {
            assert_eq!(days_from_epoch(date.0, date.1, date.2), days, "{date:?}");
        }
    }

    #[test]
    fn unix_modes_are_believed_where_unzip_believes_them() {
        assert_eq!(permissions(System::Unix, 0o100_775 << 16, false), 0o775);
        assert_eq!(permissions(System::Dos, 0o600 << 16, false), 0o600);
        assert_eq!(permissions(System::Dos, 0o755 << 16, false) & 0o111, 0);
        assert_eq!(permissions(System::Dos, 0x01, false) & 0o222, 0);
    }
}
