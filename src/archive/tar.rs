//! Extraction of tar archives: every member is read in turn and created in a confined [`Tree`].

use crate::{
    error::{Error, Result},
    fs::{Attributes, Mtime, SMALL, Tree, WriteBehind, umask},
    rel_path::RelPath,
};
use std::{
    collections::HashSet,
    ffi::OsStr,
    io::{self, ErrorKind, Read},
    os::unix::ffi::OsStrExt,
    path::Path,
};
use tar::{Archive, Entry, EntryType};

/// Size of one write, in bytes.
const WRITE: usize = 256 * 1024;

/// More segments than any sparse file worth the name has.
const MAX_SEGMENTS: usize = 1 << 20;

/// What PAX records (POSIX.1-2017, pax, "pax Extended Header") say beyond what the tar crate applies by itself.
#[derive(Default)]
struct PaxRecords {
    mtime: Option<Mtime>,
    sparse: Option<PaxSparse>,
}

/// The records of a sparse file, as GNU tar and bsdtar write them ("GNU.sparse.…").
#[derive(Default)]
struct PaxSparse {
    version: [u64; 2],
    name: Option<Vec<u8>>,
    real_size: u64,
}

/// Extracts all members into the directory `root` and returns warnings. Reads the stream to its end, past the end of
/// the archive.
pub(super) fn extract(source: impl Read, root: &Path, writers: usize) -> Result<Vec<String>> {
    std::thread::scope(|scope| {
        let mut extractor = Extractor {
            tree: Tree::open(root)?,
            behind: WriteBehind::start(scope, root, writers)?,
            buffer: vec![0; WRITE],
            kept_mode_bits: kept_mode_bits(),
            links: HashSet::new(),
            stripped: None,
        };
        let mut archive = Archive::new(source);
        for entry in archive.entries().map_err(read_error)? {
            extractor.member(&mut entry.map_err(read_error)?)?;
        }
        let mut rest = archive.into_inner();
        while rest.read(&mut extractor.buffer).map_err(read_error)? > 0 {}
        extractor.behind.settle()?;
        extractor.tree.finish()?;
        Ok(extractor.stripped.into_iter().collect())
    })
}

/// Creates members in a tree: small files by the writers behind, everything else at once.
struct Extractor {
    tree: Tree,
    behind: WriteBehind,
    buffer: Vec<u8>,
    kept_mode_bits: u32,
    links: HashSet<RelPath>,
    stripped: Option<String>,
}

impl Extractor {
    fn member<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<()> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) || kind == EntryType::new(b'V') {
            return Ok(());
        }
        let pax = pax_records(entry)?;
        let sparse_name = pax.sparse.as_ref().and_then(|sparse| sparse.name.clone());
        let name = sparse_name.unwrap_or_else(|| entry.path_bytes().into_owned());
        let path = member_path(&name)?;
        if self.stripped.is_none() && name.starts_with(b"/") {
            let name = name.escape_ascii();
            self.stripped = Some(format!(
                "leading `/` is removed from member names, such as `{name}`"
            ));
        }
        // Members so far may have gone through the link that this one replaces.
        let replaces_link = self.links.remove(&path);
        if replaces_link {
            self.behind.settle()?;
        }
        let mode = entry
            .header()
            .mode()
            .map_err(|err| refused(&path, &err.to_string()))?;
        let mtime = pax.mtime.or_else(|| header_mtime(entry));
        let attributes = Attributes {
            mode: mode & self.kept_mode_bits,
            mtime,
        };
        match kind {
            // Archives older than POSIX have no type for directories, only the slash.
            EntryType::Regular | EntryType::Directory if kind.is_dir() || name.ends_with(b"/") => {
                self.behind.settle_path(&path)?;
                self.tree.directory(&path, attributes)
            }
            EntryType::Regular | EntryType::Continuous => match pax.sparse {
                Some(sparse) => self.pax_sparse_file(entry, &path, attributes, &sparse),
                None if replaces_link => self.file_at_once(entry, &path, attributes),
                None => self.file(entry, path, attributes),
            },
            EntryType::GNUSparse => self.sparse_file(entry, &path, attributes),
            EntryType::Symlink | EntryType::Link => self.link(entry, &path, attributes.mtime),
            EntryType::Block | EntryType::Char => Err(refused(&path, "devices are not extracted")),
            EntryType::Fifo => Err(refused(&path, "named pipes are not extracted")),
            other => {
                let kind = other.as_byte().escape_ascii();
                Err(refused(&path, &format!("unsupported member type `{kind}`")))
            }
        }
    }

    fn file<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        path: RelPath,
        attributes: Attributes,
    ) -> Result<()> {
        if let Ok(size) = usize::try_from(entry.size())
            && size <= SMALL
        {
            return self.behind.file(path, attributes, size, |content| {
                entry.read_exact(content).map_err(|err| match err.kind() {
                    ErrorKind::UnexpectedEof => ends_early(entry),
                    _ => read_error(err),
                })
            });
        }
        self.file_at_once(entry, &path, attributes)
    }

    /// Creates a file before anything that follows: a large one, or one in the place of a link.
    fn file_at_once<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        path: &RelPath,
        attributes: Attributes,
    ) -> Result<()> {
        self.behind.settle_path(path)?;
        let mut file = self.tree.file(path, attributes)?;
        copy(entry, &mut self.buffer, |block| file.write(block))?;
        file.finish()
    }

    fn sparse_file<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        path: &RelPath,
        attributes: Attributes,
    ) -> Result<()> {
        self.behind.settle_path(path)?;
        let mut file = self.tree.file(path, attributes)?;
        copy(entry, &mut self.buffer, |block| file.write_sparse(block))?;
        file.finish_sparse()
    }

    /// Writes a sparse file of version 1.0: the content begins with a map of decimal numbers, one per line (how many
    /// segments, then offset and size of each), padded to a block; the segments follow.
    fn pax_sparse_file<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        path: &RelPath,
        attributes: Attributes,
        sparse: &PaxSparse,
    ) -> Result<()> {
        let malformed = || refused(path, "the map of the sparse file is malformed");
        if sparse.version != [1, 0] {
            let [major, minor] = sparse.version;
            return Err(refused(
                path,
                &format!("sparse files of version {major}.{minor} are not supported"),
            ));
        }
        let map = sparse_map(entry)?.ok_or_else(malformed)?;
        self.behind.settle_path(path)?;
        let mut file = self.tree.file(path, attributes)?;
        let mut end = 0;
        for (offset, size) in map {
            let next = offset
                .checked_add(size)
                .filter(|next| *next <= sparse.real_size);
            let next = next.filter(|_| offset >= end).ok_or_else(malformed)?;
            file.skip(offset - end)?;
            let mut left = size;
            while left > 0 {
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(WRITE);
                let length = match entry.read(&mut self.buffer[..most]).map_err(read_error)? {
                    0 => return Err(ends_early(entry)),
                    length => length,
                };
                file.write(&self.buffer[..length])?;
                left -= length as u64;
            }
            end = next;
        }
        file.skip(sparse.real_size - end)?;
        file.finish_sparse()
    }

    fn link<R: Read>(
        &mut self,
        entry: &Entry<'_, R>,
        path: &RelPath,
        mtime: Option<Mtime>,
    ) -> Result<()> {
        // What a link leads to, or takes the place of, must be there.
        self.behind.settle()?;
        let target = entry
            .link_name_bytes()
            .ok_or_else(|| refused(path, "link without a target"))?;
        if entry.header().entry_type() == EntryType::Symlink {
            if target.is_empty() || target.contains(&0) {
                return Err(refused(path, "symbolic link without a usable target"));
            }
            self.links.insert(path.clone());
            return self.tree.symlink(path, OsStr::from_bytes(&target), mtime);
        }
        let to = RelPath::strip_root(&target)
            .map_err(|err| refused(path, &format!("the target of the hard link {err}")))?;
        self.tree.hard_link(path, &to)
    }
}

/// Returns which permission bits of an archive are kept, by GNU tar's rule: root gets them all, others what their
/// umask leaves.
fn kept_mode_bits() -> u32 {
    if rustix::process::geteuid().is_root() {
        0o777
    } else {
        0o777 & !umask().bits()
    }
}

/// Returns where a member goes: its name without leading slashes.
fn member_path(name: &[u8]) -> Result<RelPath> {
    if name.is_empty() {
        return Err(Error::archive("a member has no name"));
    }
    RelPath::strip_root(name).map_err(|err| Error::Archive {
        member: Some(name.escape_ascii().to_string()),
        problem: format!("the name {err}"),
    })
}

fn copy<R: Read>(
    entry: &mut Entry<'_, R>,
    buffer: &mut [u8],
    mut write: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut left = entry.size();
    loop {
        match entry.read(buffer).map_err(read_error)? {
            0 if left == 0 => return Ok(()),
            0 => return Err(ends_early(entry)),
            length => {
                left = left.saturating_sub(length as u64);
                write(&buffer[..length])?;
            }
        }
    }
}

fn ends_early<R: Read>(entry: &Entry<'_, R>) -> Error {
    let member = Some(entry.path_bytes().escape_ascii().to_string());
    Error::Archive {
        member,
        problem: "the archive ends before the member does".into(),
    }
}

/// Reads the map of a sparse file of version 1.0; `None` if it is malformed.
fn sparse_map<R: Read>(entry: &mut Entry<'_, R>) -> Result<Option<Vec<(u64, u64)>>> {
    let mut numbers = Vec::new();
    let mut digits = Vec::new();
    let mut wanted = 1;
    let mut block = [0; 512];
    while numbers.len() < wanted {
        entry.read_exact(&mut block).map_err(read_error)?;
        for &byte in &block {
            match byte {
                _ if numbers.len() == wanted => break,
                b'0'..=b'9' if digits.len() < 20 => digits.push(byte),
                b'\n' => {
                    let Some(number) = number(&digits) else {
                        return Ok(None);
                    };
                    digits.clear();
                    if numbers.is_empty() {
                        wanted = match usize::try_from(number) {
                            Ok(segments) if segments <= MAX_SEGMENTS => 1 + 2 * segments,
                            _ => return Ok(None),
                        };
                    }
                    numbers.push(number);
                }
                _ => return Ok(None),
            }
        }
    }
    Ok(Some(
        numbers[1..]
            .chunks_exact(2)
            .map(|pair| (pair[0], pair[1]))
            .collect(),
    ))
}

fn pax_records<R: Read>(entry: &mut Entry<'_, R>) -> Result<PaxRecords> {
    let mut records = PaxRecords::default();
    let Some(extensions) = entry.pax_extensions().map_err(read_error)? else {
        return Ok(records);
    };
    for record in extensions {
        let record = record.map_err(read_error)?;
        let value = record.value_bytes();
        if record.key_bytes() == b"mtime" {
            records.mtime = pax_time(value);
        }
        let Some(key) = record.key_bytes().strip_prefix(b"GNU.sparse.") else {
            continue;
        };
        let sparse = records.sparse.get_or_insert_default();
        match key {
            b"major" => sparse.version[0] = number(value).unwrap_or(u64::MAX),
            b"minor" => sparse.version[1] = number(value).unwrap_or(u64::MAX),
            b"name" => sparse.name = Some(value.to_vec()),
            b"realsize" => sparse.real_size = number(value).unwrap_or(0),
            _ => {}
        }
    }
    Ok(records)
}

fn number(digits: &[u8]) -> Option<u64> {
    str::from_utf8(digits).ok()?.parse().ok()
}

/// Parses a PAX time: seconds as a decimal fraction, possibly negative. Digits beyond nanoseconds are dropped towards
/// the past, as GNU tar does.
pub(super) fn pax_time(text: &[u8]) -> Option<Mtime> {
    let text = str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    if !whole.starts_with('-') || fraction.bytes().all(|byte| byte == b'0') {
        return Some(Mtime { seconds, nanos });
    }
    let lost = u32::from(fraction.bytes().skip(9).any(|byte| byte != b'0'));
    Some(Mtime {
        seconds: seconds - 1,
        nanos: 1_000_000_000 - nanos - lost,
    })
}

/// Reads the header's time, which GNU tar writes in two's complement when it does not fit or is negative.
fn header_mtime<R: Read>(entry: &Entry<'_, R>) -> Option<Mtime> {
    let seconds = entry.header().mtime().ok()?;
    Some(Mtime {
        seconds: seconds.cast_signed(),
        nanos: 0,
    })
}

fn refused(path: &RelPath, problem: &str) -> Error {
    Error::Archive {
        member: Some(path.to_string()),
        problem: problem.to_owned(),
    }
}

/// What reading the archive failed with: a decoder's word, or the tar crate's about a header.
#[expect(
    clippy::needless_pass_by_value,
    reason = "it is the end of the error, used as `map_err(read_error)`"
)]
pub(super) fn read_error(err: io::Error) -> Error {
    let problem = crate::error::chain(&err);
    Error::archive(format!("the archive is damaged: {problem}"))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the disk directly")]
mod tests {
    use super::{Mtime, extract, pax_time};
    use std::fs;
    use tar::{Builder, EntryType, Header};

    fn add(builder: &mut Builder<Vec<u8>>, kind: EntryType, name: &str, target: &str) {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_size(0);
        if target.is_empty() {
            builder.append_data(&mut header, name, &b""[..]).unwrap();
        } else {
            builder.append_link(&mut header, name, target).unwrap();
        }
    }

    #[test]
    fn files_go_where_a_link_leads_when_it_is_their_turn() {
        // Enough files for several batches on each side, so that all writers know the old way.
        const FILES: usize = 600;
        for replacement in ["g", ""] {
            let mut builder = Builder::new(Vec::new());
            add(&mut builder, EntryType::Directory, "e", "");
            add(&mut builder, EntryType::Directory, "g", "");
            add(&mut builder, EntryType::Symlink, "d", "e");
            (0..FILES).for_each(|n| add(&mut builder, EntryType::Regular, &format!("d/f{n}"), ""));
            match replacement {
                "" => add(&mut builder, EntryType::Directory, "d", ""),
                target => add(&mut builder, EntryType::Symlink, "d", target),
            }
            (0..FILES).for_each(|n| add(&mut builder, EntryType::Regular, &format!("d/h{n}"), ""));
            let archive = builder.into_inner().unwrap();

            let temp = tempfile::tempdir().unwrap();
            extract(&archive[..], temp.path(), 2).unwrap();
            let second = if replacement.is_empty() {
                "d"
            } else {
                replacement
            };
            for (directory, initial) in [("e", 'f'), (second, 'h')] {
                let names: Vec<_> = fs::read_dir(temp.path().join(directory)).unwrap().collect();
                assert_eq!(names.len(), FILES, "{directory}");
                for name in names {
                    assert!(
                        name.unwrap()
                            .file_name()
                            .to_string_lossy()
                            .starts_with(initial)
                    );
                }
            }
        }
    }

    #[test]
    fn pax_times_keep_nanoseconds_and_round_to_the_past() {
        let time = |seconds, nanos| Some(Mtime { seconds, nanos });
        assert_eq!(pax_time(b"1577934246"), time(1_577_934_246, 0));
        assert_eq!(pax_time(b"1577934246.0"), time(1_577_934_246, 0));
        assert_eq!(pax_time(b"1.5"), time(1, 500_000_000));
        assert_eq!(pax_time(b"1.1234567899"), time(1, 123_456_789));
        assert_eq!(pax_time(b"-1.25"), time(-2, 750_000_000));
        assert_eq!(pax_time(b"-0.5"), time(-1, 500_000_000));
        assert_eq!(pax_time(b"-3"), time(-3, 0));
        for text in [&b"soon"[..], b"1.x", b"", b"\xff"] {
            assert_eq!(pax_time(text), None);
        }
    }
}
