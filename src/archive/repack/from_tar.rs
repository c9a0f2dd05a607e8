//! From tar, with other names.

use super::{Repack, member::Member, writer::TarZst};
use crate::{
    archive::tar::read_error,
    error::{Error, Result},
};
use std::io::{self, Read};
use tar::{Archive, Entry, EntryType};

/// Writes the members of an archive under their new names. Reads it to the end of the stream, past its own end.
pub(super) fn rewrite(source: impl Read, repack: &Repack, out: &mut TarZst) -> Result<()> {
    let mut archive = Archive::new(source);
    for entry in archive.entries().map_err(read_error)? {
        let mut entry = entry.map_err(read_error)?;
        if let Some(member) = member(&mut entry, repack)? {
            out.append(&member, entry.take(member.size))?;
        }
    }
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(read_error)?;
    out.end_archive()
}

/// Returns what becomes of an entry; nothing, of a directory.
fn member<R: Read>(entry: &mut Entry<'_, R>, repack: &Repack) -> Result<Option<Member>> {
    let name = entry.path_bytes().into_owned();
    let Some(kind) = kind(entry.header().entry_type(), &name)? else {
        return Ok(None);
    };
    let link = match kind {
        EntryType::Link => Some(repack.rename(&target(entry)?)?),
        EntryType::Symlink => Some(target(entry)?),
        _ => None,
    };
    let records = records(entry).map_err(|err| err.of_member(&name))?;
    let header = entry.header();
    let mode = header
        .mode()
        .map_err(|err| read_error(err).of_member(&name))?;
    let is_file = kind == EntryType::Regular;
    // Archives leave fields blank that do not matter to them.
    Ok(Some(Member {
        name: repack.rename(&name)?,
        kind,
        link,
        mode: mode & 0o7777,
        owner: header.uid().unwrap_or(0),
        group: header.gid().unwrap_or(0),
        mtime: header.mtime().unwrap_or(0).cast_signed(),
        size: if is_file { entry.size() } else { 0 },
        owner_name: header.username_bytes().unwrap_or_default().to_owned(),
        group_name: header.groupname_bytes().unwrap_or_default().to_owned(),
        device: (
            header.device_major().ok().flatten().unwrap_or(0),
            header.device_minor().ok().flatten().unwrap_or(0),
        ),
        records,
    }))
}

/// Returns the new type of a member; none if it is left out.
///
/// Devices and named pipes are passed on, as the Python tool does: nothing is created here, and it is for whoever
/// extracts the archive to refuse them. Global records are dropped; in practice that is the commit that `git archive`
/// notes. Sparse files become plain ones.
fn kind(kind: EntryType, name: &[u8]) -> Result<Option<EntryType>> {
    match kind {
        // Archives older than POSIX have no type for directories, only the slash.
        EntryType::Regular if name.ends_with(b"/") => Ok(None),
        EntryType::Directory | EntryType::XGlobalHeader => Ok(None),
        // The label of a volume.
        _ if kind.as_byte() == b'V' => Ok(None),
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            Ok(Some(EntryType::Regular))
        }
        EntryType::Link
        | EntryType::Symlink
        | EntryType::Block
        | EntryType::Char
        | EntryType::Fifo => Ok(Some(kind)),
        _ => {
            let kind = kind.as_byte().escape_ascii();
            Err(Error::archive(format!("unsupported member type `{kind}`")).of_member(name))
        }
    }
}

fn target<R: Read>(entry: &Entry<'_, R>) -> Result<Vec<u8>> {
    match entry.link_name_bytes() {
        Some(target) => Ok(target.into_owned()),
        None => Err(Error::archive("link without a target").of_member(&entry.path_bytes())),
    }
}

/// Returns the PAX records that stay as they are: times with their fractions, attributes and whatever else.
fn records<R: Read>(entry: &mut Entry<'_, R>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut kept = Vec::new();
    let Some(extensions) = entry.pax_extensions().map_err(read_error)? else {
        return Ok(kept);
    };
    for record in extensions {
        let record = record.map_err(read_error)?;
        match record.key_bytes() {
            b"path" | b"linkpath" | b"size" => {}
            keyword if keyword.starts_with(b"GNU.sparse.") => {
                return Err(Error::archive(
                    "sparse members in PAX format are not supported yet",
                ));
            }
            keyword => kept.push((keyword.to_owned(), record.value_bytes().to_owned())),
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::super::{Repack, writer::tests::written};
    use super::rewrite;
    use crate::error::Result;
    use std::io::Read;
    use tar::{Archive, Builder, EntryType, Header};

    /// An archive under construction.
    struct Source(Builder<Vec<u8>>);

    impl Source {
        fn new() -> Self {
            Self(Builder::new(Vec::new()))
        }

        fn add(mut self, name: &str, kind: EntryType, content: &[u8]) -> Self {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(0o750);
            header.set_mtime(77);
            header.set_size(content.len() as u64);
            self.0.append_data(&mut header, name, content).unwrap();
            self
        }

        fn link(mut self, name: &str, kind: EntryType, target: &str) -> Self {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(0o777);
            header.set_size(0);
            self.0.append_link(&mut header, name, target).unwrap();
            self
        }

        fn records(mut self, records: &[(&str, &str)]) -> Self {
            let records = records.iter().map(|(key, value)| (*key, value.as_bytes()));
            self.0.append_pax_extensions(records).unwrap();
            self
        }

        fn repacked(self) -> Result<Vec<u8>> {
            let repack = Repack {
                strip_components: 1,
                add_prefix: "p/".into(),
                wrap_as: None,
            };
            let archive = self.0.into_inner().unwrap();
            written(|out| rewrite(&archive[..], &repack, out))
        }
    }

    /// Shows members as `name kind -> target: content`.
    fn listing(tar: &[u8]) -> Vec<String> {
        let mut archive = Archive::new(tar);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            let kind = entry.header().entry_type().as_byte() as char;
            let target = entry.link_name_bytes().unwrap_or_default().into_owned();
            let name = entry.path_bytes().escape_ascii().to_string();
            format!("{name} {kind} -> {}: {content}", target.escape_ascii())
        });
        entries.collect()
    }

    #[test]
    fn names_and_targets_of_hard_links_are_rewritten_also_long_ones() {
        let long = "n".repeat(200);
        let tar = Source::new()
            .add("top/", EntryType::Directory, b"")
            .add(&format!("top/{long}"), EntryType::Regular, b"long")
            .link("top/hard", EntryType::Link, &format!("top/{long}"))
            .link("top/soft", EntryType::Symlink, "../elsewhere")
            .add("top/fifo", EntryType::Fifo, b"")
            .add("top/last", EntryType::Regular, b"last")
            .repacked()
            .unwrap();
        assert_eq!(
            listing(&tar),
            [
                format!("p/{long} 0 -> : long"),
                format!("p/hard 1 -> p/{long}: "),
                "p/soft 2 -> ../elsewhere: ".into(),
                "p/fifo 6 -> : ".into(),
                "p/last 0 -> : last".into(),
            ]
        );
    }

    #[test]
    fn records_stay_but_for_names() {
        let records = [
            ("mtime", "5.25"),
            ("path", "top/real"),
            ("SCHILY.xattr.a", "b"),
        ];
        let tar = Source::new()
            .records(&records)
            .add("top/cut off", EntryType::Regular, b"x")
            .repacked()
            .unwrap();
        let mut archive = Archive::new(&tar[..]);
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(*entry.path_bytes(), *b"p/real");
        let kept = entry.pax_extensions().unwrap().unwrap().map(|record| {
            let record = record.unwrap();
            format!("{}={}", record.key().unwrap(), record.value().unwrap())
        });
        assert_eq!(kept.collect::<Vec<_>>(), ["mtime=5.25", "SCHILY.xattr.a=b"]);
    }

    #[test]
    fn what_cannot_be_kept_is_refused_by_name() {
        for (source, expected) in [
            (
                Source::new().add("file", EntryType::Regular, b""),
                "cannot unpack `file`: Stripping 1 components would remove files",
            ),
            (
                Source::new().link("top/hard", EntryType::Link, "file"),
                "cannot unpack `file`: Stripping 1 components would remove files",
            ),
            (
                Source::new().records(&[("GNU.sparse.major", "1")]).add(
                    "top/sparse",
                    EntryType::Regular,
                    b"",
                ),
                "cannot unpack `top/sparse`: sparse members in PAX format are not supported yet",
            ),
        ] {
            assert_eq!(source.repacked().unwrap_err().to_string(), expected);
        }
    }
}
