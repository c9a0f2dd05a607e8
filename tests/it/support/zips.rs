//! Zip archives put together byte by byte, also such as no tool would make: everything the format says twice can be
//! said differently here.

/// Flag: sizes and CRC-32 follow the content.
pub(crate) const DESCRIPTOR: u16 = 1 << 3;
/// Flag: the name is UTF-8.
pub(crate) const UTF8: u16 = 1 << 11;

/// Where an archive says that it was made.
pub(crate) const DOS: u8 = 0;
/// The same.
pub(crate) const UNIX: u8 = 3;

/// 2020-01-02 03:04:06 as DOS has it: time and date.
const DOS_TIME: u32 =
    ((2020 - 1980) << 25) | (1 << 21) | (2 << 16) | (3 << 11) | (4 << 5) | (6 / 2);

/// What a header says about a member.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) flags: u16,
    pub(crate) method: u16,
    pub(crate) crc: u32,
    pub(crate) packed_size: u32,
    pub(crate) size: u32,
    pub(crate) name: Vec<u8>,
    pub(crate) extra: Vec<u8>,
}

/// A member: the header before it, the one in the table of contents, and what is between the first and the next.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) local: Head,
    pub(crate) central: Head,
    pub(crate) packed: Vec<u8>,
    /// What follows the content.
    pub(crate) after: Vec<u8>,
    pub(crate) host: u8,
    pub(crate) attributes: u32,
    /// Where the table of contents says that it is, if not where it is.
    pub(crate) offset: Option<u32>,
    pub(crate) disk: u16,
}

/// Makes a regular file that is stored as it is.
pub(crate) fn entry(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Entry {
    packed_entry(name, 0, content.as_ref(), content.as_ref())
}

/// Makes a regular file whose content is packed by `method` to `packed`.
pub(crate) fn packed_entry(
    name: impl AsRef<[u8]>,
    method: u16,
    content: &[u8],
    packed: &[u8],
) -> Entry {
    let head = Head {
        flags: 0,
        method,
        crc: crc(content),
        packed_size: small(packed.len()),
        size: small(content.len()),
        name: name.as_ref().to_vec(),
        extra: Vec::new(),
    };
    Entry {
        local: head.clone(),
        central: head,
        packed: packed.to_vec(),
        after: Vec::new(),
        host: UNIX,
        attributes: 0o100_644 << 16,
        offset: None,
        disk: 0,
    }
}

/// Makes a symbolic link.
pub(crate) fn link(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Entry {
    entry(name, target).mode(0o120_777)
}

/// Makes a directory.
pub(crate) fn directory(name: impl AsRef<[u8]>) -> Entry {
    entry(name, b"").mode(0o040_755)
}

impl Entry {
    /// Sets type and permissions.
    pub(crate) fn mode(mut self, mode: u32) -> Self {
        self.attributes = mode << 16;
        self
    }

    /// Says that the member was packed on DOS.
    pub(crate) fn packed_on_dos(mut self) -> Self {
        self.host = DOS;
        self.attributes = 0x20;
        self
    }

    /// Changes both headers in the same way.
    pub(crate) fn both(mut self, change: impl Fn(&mut Head)) -> Self {
        change(&mut self.local);
        change(&mut self.central);
        self
    }

    /// Changes the header before the member.
    pub(crate) fn local(mut self, change: impl Fn(&mut Head)) -> Self {
        change(&mut self.local);
        self
    }

    /// Changes the header in the table of contents.
    pub(crate) fn central(mut self, change: impl Fn(&mut Head)) -> Self {
        change(&mut self.central);
        self
    }

    /// Writes the member as to a pipe: sizes and CRC-32 follow it, in the form that `descriptor` gives them.
    pub(crate) fn streamed(self, descriptor: impl Fn(&Head) -> Vec<u8>) -> Self {
        let mut entry = self.both(|head| head.flags |= DESCRIPTOR).local(|head| {
            (head.crc, head.packed_size, head.size) = (0, 0, 0);
        });
        entry.after = descriptor(&entry.central);
        entry
    }
}

/// A data descriptor with a signature and sizes of 32 bits, as most write it.
pub(crate) fn descriptor(head: &Head) -> Vec<u8> {
    [b"PK\x07\x08".to_vec(), unsigned_descriptor(head)].concat()
}

/// A data descriptor without a signature.
pub(crate) fn unsigned_descriptor(head: &Head) -> Vec<u8> {
    [head.crc, head.packed_size, head.size]
        .map(u32::to_le_bytes)
        .concat()
}

/// A data descriptor with sizes of 64 bits.
pub(crate) fn wide_descriptor(head: &Head) -> Vec<u8> {
    let mut bytes = b"PK\x07\x08".to_vec();
    bytes.extend(head.crc.to_le_bytes());
    bytes.extend(u64::from(head.packed_size).to_le_bytes());
    bytes.extend(u64::from(head.size).to_le_bytes());
    bytes
}

/// An extra field.
pub(crate) fn extra(id: u16, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("a short field");
    [&id.to_le_bytes(), &length.to_le_bytes(), content].concat()
}

/// Zip64's extra field with these numbers.
pub(crate) fn zip64_extra(numbers: &[u64]) -> Vec<u8> {
    let content: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    extra(1, &content)
}

/// Info-ZIP's Unicode path for a member called `name`.
pub(crate) fn unicode_path(name: &[u8], path: &str) -> Vec<u8> {
    unicode_path_of(1, name, path)
}

/// The same, of some version.
pub(crate) fn unicode_path_of(version: u8, name: &[u8], path: &str) -> Vec<u8> {
    let content = [&[version], &crc(name).to_le_bytes()[..], path.as_bytes()].concat();
    extra(0x7075, &content)
}

/// The records at the end of an archive.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) disk: u16,
    pub(crate) entries: u64,
    pub(crate) size: u64,
    pub(crate) offset: u64,
    pub(crate) comment: Vec<u8>,
    /// How long the comment is said to be, if not as long as it is.
    pub(crate) comment_length: Option<u16>,
}

/// Puts an archive together.
pub(crate) fn zip(entries: &[Entry]) -> Vec<u8> {
    zip_with(entries, |_| {})
}

/// Puts an archive together whose end record is changed before it is written.
pub(crate) fn zip_with(entries: &[Entry], change: impl FnOnce(&mut End)) -> Vec<u8> {
    let (mut bytes, mut end) = members(entries);
    change(&mut end);
    bytes.extend(narrow_end(&end));
    bytes
}

/// Puts an archive together with Zip64 end records: `change` gets what the old end record says, and then what the new
/// one and its locator say.
pub(crate) fn zip64_with(
    entries: &[Entry],
    change: impl FnOnce(&mut End, &mut End, &mut u64),
) -> Vec<u8> {
    let (mut bytes, mut wide) = members(entries);
    let mut at = bytes.len() as u64;
    let mut narrow = End {
        entries: 0xffff,
        size: 0xffff_ffff,
        offset: 0xffff_ffff,
        ..wide.clone()
    };
    change(&mut narrow, &mut wide, &mut at);
    bytes.extend(b"PK\x06\x06");
    bytes.extend(44_u64.to_le_bytes());
    bytes.extend([45, UNIX, 45, 0]);
    bytes.extend(u32::from(wide.disk).to_le_bytes());
    bytes.extend([0; 4]);
    for number in [wide.entries, wide.entries, wide.size, wide.offset] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(b"PK\x06\x07\0\0\0\0");
    bytes.extend(at.to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(narrow_end(&narrow));
    bytes
}

/// All but the end records, and what these should say.
fn members(entries: &[Entry]) -> (Vec<u8>, End) {
    let (mut bytes, mut table) = (Vec::new(), Vec::new());
    for entry in entries {
        let offset = entry.offset.unwrap_or(small(bytes.len()));
        bytes.extend(b"PK\x03\x04\x14\x00");
        bytes.extend(fields(&entry.local));
        bytes.extend(&entry.local.name);
        bytes.extend(&entry.local.extra);
        bytes.extend(&entry.packed);
        bytes.extend(&entry.after);
        table.extend(b"PK\x01\x02");
        table.extend([20, entry.host, 20, 0]);
        table.extend(fields(&entry.central));
        table.extend([0, 0]); // no comment
        table.extend(entry.disk.to_le_bytes());
        table.extend([0, 0]); // binary
        table.extend(entry.attributes.to_le_bytes());
        table.extend(offset.to_le_bytes());
        table.extend(&entry.central.name);
        table.extend(&entry.central.extra);
    }
    let end = End {
        disk: 0,
        entries: entries.len() as u64,
        size: table.len() as u64,
        offset: bytes.len() as u64,
        comment: Vec::new(),
        comment_length: None,
    };
    bytes.extend(table);
    (bytes, end)
}

fn fields(head: &Head) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(head.flags.to_le_bytes());
    bytes.extend(head.method.to_le_bytes());
    bytes.extend(DOS_TIME.to_le_bytes());
    for number in [head.crc, head.packed_size, head.size] {
        bytes.extend(number.to_le_bytes());
    }
    for text in [&head.name, &head.extra] {
        bytes.extend(
            u16::try_from(text.len())
                .expect("a short text")
                .to_le_bytes(),
        );
    }
    bytes
}

fn narrow_end(end: &End) -> Vec<u8> {
    let mut bytes = b"PK\x05\x06".to_vec();
    let entries = u16::try_from(end.entries).expect("few members");
    let comment = u16::try_from(end.comment.len()).expect("a short comment");
    for number in [end.disk, 0, entries, entries] {
        bytes.extend(number.to_le_bytes());
    }
    for number in [end.size, end.offset] {
        bytes.extend(
            u32::try_from(number)
                .expect("a small archive")
                .to_le_bytes(),
        );
    }
    bytes.extend(end.comment_length.unwrap_or(comment).to_le_bytes());
    bytes.extend(&end.comment);
    bytes
}

/// Deflates without compressing.
pub(crate) fn deflate_stored(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("one block");
    [
        &[1],
        &length.to_le_bytes()[..],
        &(!length).to_le_bytes(),
        content,
    ]
    .concat()
}

/// Deflates one zero byte and `matches` times 258 more.
pub(crate) fn deflate_zeros(matches: usize) -> Vec<u8> {
    let (mut bytes, mut used) = (Vec::new(), 0);
    // The last block, with fixed codes: a literal 0, `matches` times length 258 and distance 1, and the end.
    let zero = [false, false, true, true, false, false, false, false];
    let match_258 = [true, true, false, false, false, true, false, true];
    let bits = [true, true, false].into_iter().chain(zero);
    let matches = std::iter::repeat_n(match_258.into_iter().chain([false; 5]), matches).flatten();
    for bit in bits.chain(matches).chain([false; 7]) {
        if used % 8 == 0 {
            bytes.push(0);
        }
        if let Some(last) = bytes.last_mut() {
            *last |= u8::from(bit) << (used % 8);
        }
        used += 1;
    }
    bytes
}

fn crc(content: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(content);
    crc.sum()
}

fn small(size: usize) -> u32 {
    u32::try_from(size).expect("a small archive")
}
