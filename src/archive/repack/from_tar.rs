//! From tar, with other names.

use super::{Repack, member::Member as Repacked, writer::TarZst};
use crate::{
    archive::{
        format::Compression,
        limits::Limits,
        tar::{
            header::number,
            reader::{Member, Reader},
            sparse::Segment,
        },
    },
    error::{Error, Result},
    stream::copy_out,
};
use std::io::{self, BufRead, Read};
use tar::EntryType;

/// Writes the members of an archive under their new names. Reads it to the end of the stream, past its own end.
pub(super) fn rewrite(
    source: impl BufRead,
    compression: Compression,
    repack: &Repack,
    limits: &Limits,
    out: &mut TarZst,
) -> Result<()> {
    let mut reader = Reader::new(source, compression, limits);
    let mut holes = 0;
    while let Some(member) = reader.next_member()? {
        // Nothing is created here, so names imply their directories.
        if member.kind == EntryType::Directory {
            continue;
        }
        let repacked = renamed(&member, repack)?;
        if member.segments.is_some() {
            // Written out, zeros cost as much as anything else, but the archive has no byte for them.
            holes += member.size;
            limits.check_expanded(holes, 0)?;
        }
        out.append_buffered(&repacked, Content::new(&mut reader, member))?;
    }
    reader.finish()?;
    out.end_archive()
}

/// Returns what becomes of a member.
///
/// Devices and named pipes are passed on, as the Python tool does: nothing is created here, and it is for whoever
/// extracts the archive to refuse them. Sparse files become plain ones.
fn renamed(member: &Member, repack: &Repack) -> Result<Repacked> {
    let link = match member.kind {
        EntryType::Link => Some(repack.rename(&member.link)?),
        EntryType::Symlink => Some(member.link.clone()),
        _ => None,
    };
    if link.as_ref().is_some_and(Vec::is_empty) {
        return Err(Error::archive("link without a target").of_member(&member.name));
    }
    let header = &member.header;
    let owners = header.as_old();
    let devices = match (header.as_ustar(), header.as_gnu()) {
        (Some(ustar), _) => [&ustar.dev_major, &ustar.dev_minor],
        (_, Some(gnu)) => [&gnu.dev_major, &gnu.dev_minor],
        _ => [&[0; 8]; 2],
    };
    Ok(Repacked {
        name: repack.rename(&member.name)?,
        kind: member.kind,
        link,
        mode: member.mode,
        owner: number_or_zero(&owners.uid),
        group: number_or_zero(&owners.gid),
        mtime: member.mtime.map_or(0, |mtime| mtime.seconds),
        size: member.size,
        owner_name: header.username_bytes().unwrap_or_default().to_owned(),
        group_name: header.groupname_bytes().unwrap_or_default().to_owned(),
        device: (number_or_zero(devices[0]), number_or_zero(devices[1])),
        records: kept_records(member),
    })
}

/// Reads a field: archives leave those blank that do not matter to them.
fn number_or_zero<N: TryFrom<i64> + Default>(field: &[u8]) -> N {
    let number = number(field).and_then(|number| N::try_from(number).ok());
    number.unwrap_or_default()
}

/// Returns the PAX records that stay as they are: times with their fractions, attributes and whatever else.
fn kept_records(member: &Member) -> Vec<(Vec<u8>, Vec<u8>)> {
    let records = member.records.iter().filter(|(keyword, _)| {
        !matches!(&keyword[..], b"path" | b"linkpath" | b"size")
            && !keyword.starts_with(b"GNU.sparse.")
    });
    records.cloned().collect()
}

/// What holes are filled with, so much at once.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// The content of a member, with the holes of a sparse file filled.
struct Content<'r, 'a, R> {
    reader: &'r mut Reader<'a, R>,
    segments: std::vec::IntoIter<Segment>,
    /// Where in the file the next hole begins, or its end.
    position: u64,
    size: u64,
    /// Zeros from here to the next bytes of the archive, and how many of these there are.
    hole: u64,
    data: u64,
}

impl<'r, 'a, R> Content<'r, 'a, R> {
    fn new(reader: &'r mut Reader<'a, R>, member: Member) -> Self {
        let data = if member.segments.is_some() {
            0
        } else {
            member.size
        };
        Self {
            reader,
            segments: member.segments.unwrap_or_default().into_iter(),
            position: data,
            size: member.size,
            hole: 0,
            data,
        }
    }
}

impl<R: BufRead> BufRead for Content<'_, '_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.hole == 0 && self.data == 0 && self.position < self.size {
            let end = Segment {
                offset: self.size,
                size: 0,
            };
            let segment = self.segments.next().unwrap_or(end);
            self.hole = segment.offset - self.position;
            self.data = segment.size;
            self.position = segment.offset + segment.size;
        }
        if self.hole > 0 {
            let most = usize::try_from(self.hole).unwrap_or(usize::MAX);
            return Ok(&ZEROS[..ZEROS.len().min(most)]);
        }
        if self.data == 0 {
            return Ok(&[]);
        }
        let block = self.reader.fill().map_err(io::Error::other)?;
        let most = usize::try_from(self.data).unwrap_or(usize::MAX);
        Ok(&block[..block.len().min(most)])
    }

    fn consume(&mut self, amount: usize) {
        if self.hole > 0 {
            self.hole -= amount as u64;
        } else {
            self.data -= amount as u64;
            self.reader.consume(amount);
        }
    }
}

impl<R: BufRead> Read for Content<'_, '_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        copy_out(self, buf)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Repack, writer::tests::written};
    use super::{Compression, Limits, rewrite};
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
            written(|out| {
                rewrite(
                    &archive[..],
                    Compression::None,
                    &repack,
                    &Limits::default(),
                    out,
                )
            })
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
    fn sparse_files_are_written_out() {
        let map = format!("{:\0<512}", "3\n2\n512\n1024\n3\n2000\n0\n");
        let (first, second) = ("a".repeat(512), "bcd");
        let version_1 = [
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.name", "top/real"),
            ("GNU.sparse.realsize", "3000"),
        ];
        let version_0 = [
            ("GNU.sparse.name", "top/real"),
            ("GNU.sparse.size", "3000"),
            ("GNU.sparse.map", "2,512,1024,3"),
        ];
        let content = format!("{first}{second}");
        for (records, content) in [
            (&version_1[..], format!("{map}{content}")),
            (&version_0, content),
        ] {
            let tar = Source::new()
                .records(records)
                .add("top/x/real", EntryType::Regular, content.as_bytes())
                .add("top/next", EntryType::Regular, b"next")
                .repacked()
                .unwrap();
            let hole = |length| "\0".repeat(length);
            let expected = [&hole(2), &*first, &hole(510), second, &hole(3000 - 1027)].concat();
            let expected = [
                format!("p/real 0 -> : {expected}"),
                "p/next 0 -> : next".into(),
            ];
            assert_eq!(listing(&tar), expected);
        }
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
                Source::new().records(&[("GNU.sparse.major", "2")]).add(
                    "top/sparse",
                    EntryType::Regular,
                    b"",
                ),
                "cannot unpack `top/sparse`: the format of the sparse file is not known",
            ),
        ] {
            assert_eq!(source.repacked().unwrap_err().to_string(), expected);
        }
    }
}
