//! [`Member`]: what a tar archive says about one of its members, and how that is written in POSIX's pax format.

use crate::archive::tar::header::{set_checksum, set_number};
use tar::{EntryType, Header};

/// The largest values that fit in the octal digits of a header; larger ones go to a record.
const MAX_ID: u64 = 0o777_7777;
const MAX_LONG: u64 = 0o777_7777_7777;

/// A member of a tar archive.
pub(super) struct Member {
    pub(super) name: Vec<u8>,
    pub(super) kind: EntryType,
    /// The target, of a link.
    pub(super) link: Option<Vec<u8>>,
    pub(super) mode: u32,
    pub(super) owner: u64,
    pub(super) group: u64,
    /// Seconds since the epoch; the whole ones if there is a record with a fraction.
    pub(super) mtime: i64,
    pub(super) size: u64,
    pub(super) owner_name: Vec<u8>,
    pub(super) group_name: Vec<u8>,
    /// Major and minor number, of a device.
    pub(super) device: (u32, u32),
    /// Extended attributes and the like, as (keyword, value). Names and sizes are added where needed.
    pub(super) records: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Member {
    /// Returns an empty file that belongs to root.
    pub(super) fn file(name: Vec<u8>) -> Self {
        Self {
            name,
            kind: EntryType::Regular,
            link: None,
            mode: 0o644,
            owner: 0,
            group: 0,
            mtime: 0,
            size: 0,
            owner_name: Vec::new(),
            group_name: Vec::new(),
            device: (0, 0),
            records: Vec::new(),
        }
    }

    /// Returns the header, in which what does not fit is missing or cut off, and the records that make up for it.
    pub(super) fn encode(&self) -> (Header, Vec<u8>) {
        let mut header = Header::new_ustar();
        let mut records = Records::of(&self.records);
        let link = self.link.as_deref().unwrap_or_default();
        let texts = [&self.name, link, &self.owner_name, &self.group_name];
        if texts.iter().any(|text| str::from_utf8(text).is_err()) {
            records.push_missing("hdrcharset", b"BINARY");
        }
        header.set_entry_type(self.kind);
        let old = header.as_old_mut();
        set_number(&mut old.mode, self.mode.into());
        set_number(
            &mut old.uid,
            records.number("uid", self.owner.into(), MAX_ID),
        );
        set_number(
            &mut old.gid,
            records.number("gid", self.group.into(), MAX_ID),
        );
        set_number(
            &mut old.mtime,
            records.number("mtime", self.mtime.into(), MAX_LONG),
        );
        set_number(
            &mut old.size,
            records.number("size", self.size.into(), MAX_LONG),
        );
        records.text("path", &self.name, &mut old.name);
        records.text("linkpath", link, &mut old.linkname);
        if let Some(ustar) = header.as_ustar_mut() {
            records.text("uname", &self.owner_name, &mut ustar.uname);
            records.text("gname", &self.group_name, &mut ustar.gname);
            set_number(&mut ustar.dev_major, self.device.0.into());
            set_number(&mut ustar.dev_minor, self.device.1.into());
        }
        set_checksum(&mut header);
        (header, records.encoded)
    }
}

/// PAX records in the making (POSIX.1-2017, pax, "pax Extended Header").
struct Records<'a> {
    given: &'a [(Vec<u8>, Vec<u8>)],
    encoded: Vec<u8>,
}

impl<'a> Records<'a> {
    fn of(given: &'a [(Vec<u8>, Vec<u8>)]) -> Self {
        let mut records = Self {
            given,
            encoded: Vec::new(),
        };
        for (keyword, value) in given {
            records.push(keyword, value);
        }
        records
    }

    /// Appends a record, which begins with its own length.
    fn push(&mut self, keyword: &[u8], value: &[u8]) {
        let rest = keyword.len() + value.len() + b" =\n".len();
        let mut length = rest;
        while rest + length.to_string().len() != length {
            length = rest + length.to_string().len();
        }
        self.encoded.extend(format!("{length} ").into_bytes());
        for part in [keyword, b"=", value, b"\n"] {
            self.encoded.extend(part);
        }
    }

    /// Returns what the header says: the number if it fits, else 0, and then there is a record for it.
    fn number(&mut self, keyword: &str, number: i128, max: u64) -> u64 {
        match u64::try_from(number) {
            Ok(number) if number <= max => number,
            _ => {
                self.push_missing(keyword, number.to_string().as_bytes());
                0
            }
        }
    }

    /// Fills a field of the header with as much of a text as fits. There is a record for what is cut off, and for what
    /// is not ASCII: records are in UTF-8 unless they say otherwise, but nobody knows what headers are in.
    fn text(&mut self, keyword: &str, text: &[u8], field: &mut [u8]) {
        if !text.is_ascii() || text.len() > field.len() {
            self.push_missing(keyword, text);
        }
        let length = text.len().min(field.len());
        field[..length].copy_from_slice(&text[..length]);
    }

    fn push_missing(&mut self, keyword: &str, value: &[u8]) {
        if !self
            .given
            .iter()
            .any(|(given, _)| given == keyword.as_bytes())
        {
            self.push(keyword.as_bytes(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Member, Records};
    use crate::archive::repack::writer::tests::written;
    use tar::EntryType;

    #[test]
    fn what_does_not_fit_in_a_header_is_in_records() {
        let member = Member {
            kind: EntryType::Symlink,
            link: Some(b"\xff".repeat(101)),
            owner: 3_000_000,
            mtime: -5,
            records: vec![(b"SCHILY.xattr.user.a".to_vec(), b"b".to_vec())],
            ..Member::file("n".repeat(300).into_bytes())
        };
        let tar = written(|out| {
            out.append(&member, &b""[..])?;
            out.append(&Member::file(b"next".to_vec()), &b""[..])?;
            out.end_archive()
        })
        .unwrap();
        let mut archive = tar::Archive::new(&tar[..]);
        let mut entries = archive.entries().unwrap();
        let mut entry = entries.next().unwrap().unwrap();
        assert_eq!(*entry.path_bytes(), member.name);
        assert_eq!(entry.link_name_bytes().as_deref(), member.link.as_deref());
        assert_eq!(entry.header().uid().unwrap(), member.owner);
        let records: Vec<String> = entry
            .pax_extensions()
            .unwrap()
            .unwrap()
            .map(|record| String::from_utf8_lossy(record.unwrap().key_bytes()).into_owned())
            .collect();
        assert_eq!(
            records,
            [
                "SCHILY.xattr.user.a",
                "hdrcharset",
                "uid",
                "mtime",
                "path",
                "linkpath"
            ]
        );
        assert_eq!(*entries.next().unwrap().unwrap().path_bytes(), *b"next");
    }

    #[test]
    fn records_count_their_own_length() {
        for length in [0, 1, 3, 4, 5, 89, 90, 91, 92, 93, 94, 988, 989, 990, 991] {
            let mut records = Records::of(&[]);
            records.push(b"a", &vec![b'x'; length]);
            let text = String::from_utf8(records.encoded).unwrap();
            let stated: usize = text.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(stated, text.len());
        }
    }
}
