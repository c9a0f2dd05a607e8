//! Tar archives put together from raw headers, field by field: also such as no program would make.

/// Modification time of everything.
const MTIME: u64 = 1_577_934_246;

/// A header under construction: ustar, mode 0644, no content.
#[derive(Clone)]
pub(crate) struct Header {
    bytes: [u8; 512],
    checksum: Checksum,
}

#[derive(Clone, Copy)]
enum Checksum {
    Unsigned,
    Signed,
    Wrong,
}

/// A header for a member of this type.
pub(crate) fn header(name: impl AsRef<[u8]>, flag: u8) -> Header {
    let mut header = Header {
        bytes: [0; 512],
        checksum: Checksum::Unsigned,
    };
    header.bytes[156] = flag;
    let header = header
        .field(100, if flag == b'5' { b"0000755" } else { b"0000644" })
        .field(108, b"0000000")
        .field(116, b"0000000")
        .field(124, b"00000000000")
        .mtime(format!("{MTIME:011o}"));
    header.field(257, b"ustar\x0000").field(0, name)
}

impl Header {
    /// Overwrites bytes.
    pub(crate) fn field(mut self, offset: usize, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn mode(self, mode: impl AsRef<[u8]>) -> Self {
        self.field(100, [0; 8]).field(100, mode)
    }

    pub(crate) fn size(self, size: usize) -> Self {
        self.field(124, format!("{size:011o}"))
    }

    pub(crate) fn mtime(self, mtime: impl AsRef<[u8]>) -> Self {
        self.field(136, [0; 12]).field(136, mtime)
    }

    /// Sets the target of a link.
    pub(crate) fn to(self, target: impl AsRef<[u8]>) -> Self {
        self.field(157, target)
    }

    /// Makes it a GNU header.
    pub(crate) fn gnu(self) -> Self {
        self.field(257, b"ustar  \0")
    }

    /// Makes it a header from before POSIX.
    pub(crate) fn v7(self) -> Self {
        self.field(257, [0; 255])
    }

    pub(crate) fn signed_checksum(mut self) -> Self {
        self.checksum = Checksum::Signed;
        self
    }

    pub(crate) fn wrong_checksum(mut self) -> Self {
        self.checksum = Checksum::Wrong;
        self
    }

    fn finish(mut self) -> [u8; 512] {
        self.bytes[148..156].fill(b' ');
        let unsigned: i64 = self.bytes.iter().map(|&byte| i64::from(byte)).sum();
        let signed: i64 = self
            .bytes
            .iter()
            .map(|byte| i64::from(byte.cast_signed()))
            .sum();
        let sum = match self.checksum {
            Checksum::Unsigned => unsigned,
            Checksum::Signed => signed,
            Checksum::Wrong => unsigned + 1,
        };
        self.field(148, format!("{sum:06o}\0 ")).bytes
    }
}

/// Makes the checksum of the header at this offset right again.
pub(crate) fn fix_checksum(archive: &mut [u8], offset: usize) {
    let block = &mut archive[offset..offset + 512];
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// An archive under construction.
#[derive(Clone, Default)]
pub(crate) struct RawTar {
    bytes: Vec<u8>,
}

/// An archive without anything.
pub(crate) fn raw() -> RawTar {
    RawTar::default()
}

impl RawTar {
    /// Appends a header and content, padded, whatever the header says of its size.
    pub(crate) fn with(mut self, header: Header, content: impl AsRef<[u8]>) -> Self {
        self.bytes.extend(header.finish());
        self.bytes.extend(content.as_ref());
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    /// Appends a file.
    pub(crate) fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let size = content.as_ref().len();
        self.with(header(name, b'0').size(size), content)
    }

    pub(crate) fn dir(self, name: &str) -> Self {
        self.with(header(name, b'5'), b"")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.with(header(name, b'2').to(target), b"")
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.with(header(name, b'1').to(target), b"")
    }

    /// Appends a GNU header for a long name (`L`) or target (`K`) of the member that follows.
    pub(crate) fn long(self, flag: u8, name: impl AsRef<[u8]>) -> Self {
        let name = [name.as_ref(), b"\0"].concat();
        self.with(header("././@LongLink", flag).gnu().size(name.len()), name)
    }

    /// Appends PAX records for the member that follows (`x`) or for all (`g`).
    pub(crate) fn pax(self, flag: u8, records: &[(&str, &str)]) -> Self {
        let records: String = records
            .iter()
            .map(|(key, value)| record(key, value))
            .collect();
        self.pax_text(flag, records)
    }

    /// Appends PAX records as they are.
    pub(crate) fn pax_text(self, flag: u8, records: impl AsRef<[u8]>) -> Self {
        let size = records.as_ref().len();
        self.with(header("pax", flag).size(size), records)
    }

    /// Appends bytes as they are.
    pub(crate) fn bytes(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.bytes.extend(bytes.as_ref());
        self
    }

    /// Appends the mark that ends an archive.
    pub(crate) fn end(self) -> Vec<u8> {
        self.bytes([0; 1024]).bytes
    }

    /// Ends without the mark.
    pub(crate) fn cut(self) -> Vec<u8> {
        self.bytes
    }
}

/// A PAX record, which begins with its own length.
fn record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n")
}
