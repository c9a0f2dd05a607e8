//! Extraction of tar archives: every member is read in turn and created in a confined [`Tree`].

use crate::{
    error::{Error, Result},
    fs::{Attributes, Mtime, Tree, umask},
    rel_path::RelPath,
};
use std::{
    ffi::OsStr,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
};
use tar::{Archive, Entry, EntryType};

/// Size of one write, in bytes.
const WRITE: usize = 256 * 1024;

/// What PAX records (POSIX.1-2017, pax, "pax Extended Header") say beyond what the tar crate applies by itself.
#[derive(Default)]
struct PaxRecords {
    mtime: Option<Mtime>,
    sparse: bool,
}

/// Extracts all members and returns warnings. Reads the stream to its end, past the end of the archive.
pub(super) fn extract(source: impl Read, tree: &mut Tree) -> Result<Vec<String>> {
    let mut archive = Archive::new(source);
    let mut buffer = vec![0; WRITE];
    let mut stripped = None;
    for entry in archive.entries().map_err(read_error)? {
        let mut entry = entry.map_err(read_error)?;
        if stripped.is_none() && entry.path_bytes().starts_with(b"/") {
            stripped = Some(format!(
                "leading `/` is removed from member names, such as `{}`",
                shown(&entry)
            ));
        }
        member(&mut entry, tree, &mut buffer)?;
    }
    let mut rest = archive.into_inner();
    while rest.read(&mut buffer).map_err(read_error)? > 0 {}
    Ok(stripped.into_iter().collect())
}

fn member<R: Read>(entry: &mut Entry<'_, R>, tree: &mut Tree, buffer: &mut [u8]) -> Result<()> {
    let kind = entry.header().entry_type();
    if matches!(kind, EntryType::XGlobalHeader) || kind == EntryType::new(b'V') {
        return Ok(());
    }
    let name = entry.path_bytes().into_owned();
    let path = member_path(&name)?;
    let pax = pax_records(entry)?;
    if pax.sparse {
        return Err(refused(
            &path,
            "sparse members in PAX format are not supported yet",
        ));
    }
    let attributes = Attributes {
        mode: entry
            .header()
            .mode()
            .map_err(|err| refused(&path, &err.to_string()))?
            & kept_mode_bits(),
        mtime: match pax.mtime {
            Some(mtime) => Some(mtime),
            None => header_mtime(entry),
        },
    };
    match kind {
        // Archives older than POSIX have no type for directories, only the slash.
        EntryType::Regular | EntryType::Directory if kind.is_dir() || name.ends_with(b"/") => {
            tree.directory(&path, attributes)
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            let mut file = tree.file(&path, attributes)?;
            if kind == EntryType::GNUSparse {
                copy(entry, buffer, |block| file.write_sparse(block))?;
                return file.finish_sparse();
            }
            copy(entry, buffer, |block| file.write(block))?;
            file.finish()
        }
        EntryType::Symlink => {
            let target = link_target(entry, &path)?;
            if target.is_empty() || target.contains(&0) {
                return Err(refused(&path, "symbolic link without a usable target"));
            }
            tree.symlink(&path, OsStr::from_bytes(&target), attributes.mtime)
        }
        EntryType::Link => {
            let target = link_target(entry, &path)?;
            let to = RelPath::strip_root(&target)
                .map_err(|err| refused(&path, &format!("the target of the hard link {err}")))?;
            tree.hard_link(&path, &to)
        }
        EntryType::Block | EntryType::Char => Err(refused(&path, "devices are not extracted")),
        EntryType::Fifo => Err(refused(&path, "named pipes are not extracted")),
        other => Err(refused(
            &path,
            &format!(
                "unsupported member type `{}`",
                other.as_byte().escape_ascii()
            ),
        )),
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

fn link_target<R: Read>(entry: &Entry<'_, R>, path: &RelPath) -> Result<Vec<u8>> {
    let target = entry
        .link_name_bytes()
        .ok_or_else(|| refused(path, "link without a target"))?;
    Ok(target.into_owned())
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
            0 => {
                return Err(Error::archive(format!(
                    "the archive ends {left} bytes before the end of `{}`",
                    shown(entry)
                )));
            }
            length => {
                left = left.saturating_sub(length as u64);
                write(&buffer[..length])?;
            }
        }
    }
}

fn pax_records<R: Read>(entry: &mut Entry<'_, R>) -> Result<PaxRecords> {
    let mut records = PaxRecords::default();
    let Some(extensions) = entry.pax_extensions().map_err(read_error)? else {
        return Ok(records);
    };
    for record in extensions {
        let record = record.map_err(read_error)?;
        match record.key_bytes() {
            b"mtime" => records.mtime = pax_time(record.value_bytes()),
            key if key.starts_with(b"GNU.sparse.") => records.sparse = true,
            _ => {}
        }
    }
    Ok(records)
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

fn shown<R: Read>(entry: &Entry<'_, R>) -> String {
    entry.path_bytes().escape_ascii().to_string()
}

fn refused(path: &RelPath, problem: &str) -> Error {
    Error::Archive {
        member: Some(path.to_string()),
        problem: problem.to_owned(),
    }
}

/// What reading the archive failed with: a decoder's word, or the tar crate's about a header.
pub(super) fn read_error(err: io::Error) -> Error {
    let mut problem = err.to_string();
    let mut source = std::error::Error::source(&err);
    while let Some(cause) = source {
        problem = format!("{problem}: {cause}");
        source = cause.source();
    }
    Error::archive(format!("the archive is damaged: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::{Mtime, pax_time};

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
