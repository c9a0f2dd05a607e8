//! Archives and compressed bytes made in memory, also such as no sane tool would make.
//!
//! Tar headers are filled in byte by byte and zip files are written by hand, because the crates' writers
//! refuse just the names, types and attributes that the tests about hostile archives need.

use std::io::Write as _;

use bzip2::write::BzEncoder;
use flate2::Crc;
use flate2::write::{DeflateEncoder, GzEncoder};
use liblzma::write::XzEncoder;
use sha2::{Digest, Sha256, Sha512};

/// One member of a tar or zip archive.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    name: Vec<u8>,
    what: What,
    mode: u32,
    mtime: u64,
}

#[derive(Clone, Debug)]
enum What {
    File(Vec<u8>),
    Dir,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    /// A tar type flag (`3` character device, `4` block device, `6` fifo) for tar, the file type bits for zip.
    Special {
        flag: u8,
        bits: u32,
    },
}

/// The mtime of every member that is not given another: 2020-01-02 03:04:06 UTC, even for the sake of DOS.
pub(crate) const MTIME: u64 = 1_577_934_246;

/// A regular file, mode 0644.
pub(crate) fn file(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Member {
    Member::new(name, What::File(content.as_ref().to_vec()), 0o644)
}

/// A directory, mode 0755.
pub(crate) fn dir(name: impl AsRef<[u8]>) -> Member {
    Member::new(name, What::Dir, 0o755)
}

/// A symbolic link.
pub(crate) fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Member {
    Member::new(name, What::Symlink(target.as_ref().to_vec()), 0o777)
}

/// A hard link to another member (tar only).
pub(crate) fn hard_link(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Member {
    Member::new(name, What::HardLink(target.as_ref().to_vec()), 0o644)
}

/// A fifo.
pub(crate) fn fifo(name: impl AsRef<[u8]>) -> Member {
    let (flag, bits) = (b'6', 0o010_000);
    Member::new(name, What::Special { flag, bits }, 0o644)
}

/// A character device (1, 3 where the format can say so).
pub(crate) fn char_device(name: impl AsRef<[u8]>) -> Member {
    let (flag, bits) = (b'3', 0o020_000);
    Member::new(name, What::Special { flag, bits }, 0o666)
}

/// A block device.
pub(crate) fn block_device(name: impl AsRef<[u8]>) -> Member {
    let (flag, bits) = (b'4', 0o060_000);
    Member::new(name, What::Special { flag, bits }, 0o660)
}

impl Member {
    fn new(name: impl AsRef<[u8]>, what: What, mode: u32) -> Self {
        Self {
            name: name.as_ref().to_vec(),
            what,
            mode,
            mtime: MTIME,
        }
    }

    /// Sets the mode, with set-id bits if wanted.
    pub(crate) fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Sets the modification time in seconds.
    pub(crate) fn mtime(mut self, seconds: u64) -> Self {
        self.mtime = seconds;
        self
    }

    fn content(&self) -> &[u8] {
        match &self.what {
            What::File(content) => content,
            _ => b"",
        }
    }

    fn tar_header(&self) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        assert!(self.name.len() <= 100, "name too long for a plain header");
        let (flag, target): (u8, &[u8]) = match &self.what {
            What::File(_) => (b'0', b""),
            What::Dir => (b'5', b""),
            What::Symlink(target) => (b'2', target),
            What::HardLink(target) => (b'1', target),
            What::Special { flag, .. } => (*flag, b""),
        };
        header.as_old_mut().name[..self.name.len()].copy_from_slice(&self.name);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
        header.set_entry_type(tar::EntryType::new(flag));
        header.set_mode(self.mode);
        header.set_mtime(self.mtime);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(self.content().len() as u64);
        if matches!(flag, b'3' | b'4') {
            header
                .set_device_major(1)
                .expect("a GNU header has device fields");
            header
                .set_device_minor(3)
                .expect("a GNU header has device fields");
        }
        header.set_cksum();
        header
    }
}

/// A tar archive (GNU headers) with its two zero blocks.
pub(crate) fn tar_of(members: &[Member]) -> Vec<u8> {
    let mut bytes = tar_without_end(members);
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// A tar archive that ends after its last member.
pub(crate) fn tar_without_end(members: &[Member]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for member in members {
        bytes.extend_from_slice(member.tar_header().as_bytes());
        bytes.extend_from_slice(member.content());
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes
}

/// A zip archive made on Unix: files deflated, mode and type in the external attributes.
pub(crate) fn zip_of(members: &[Member]) -> Vec<u8> {
    zip_made_on(Host::Unix, Method::Deflate, members)
}

/// A zip archive made on Unix whose members are stored, so that its size follows the content's.
pub(crate) fn stored_zip_of(members: &[Member]) -> Vec<u8> {
    zip_made_on(Host::Unix, Method::Store, members)
}

/// A zip archive made on DOS: no modes.
pub(crate) fn dos_zip_of(members: &[Member]) -> Vec<u8> {
    zip_made_on(Host::Dos, Method::Deflate, members)
}

#[derive(Clone, Copy, PartialEq)]
enum Host {
    Dos = 0,
    Unix = 3,
}

#[derive(Clone, Copy, PartialEq)]
enum Method {
    Store = 0,
    Deflate = 8,
}

fn zip_made_on(host: Host, method: Method, members: &[Member]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for member in members {
        let offset = small(bytes.len());
        let (content, bits): (&[u8], u32) = match &member.what {
            What::File(content) => (content, 0o100_000),
            What::Dir => (b"", 0o040_000),
            What::Symlink(target) => (target, 0o120_000),
            What::Special { bits, .. } => (b"", *bits),
            What::HardLink(_) => panic!("zip has no hard links"),
        };
        let mut name = member.name.clone();
        if matches!(member.what, What::Dir) && !name.ends_with(b"/") {
            name.push(b'/');
        }
        let packed = if method == Method::Deflate {
            deflate(content)
        } else {
            content.to_vec()
        };
        let mut crc = Crc::new();
        crc.update(content);
        let mut common = Vec::new();
        common.extend(20_u16.to_le_bytes()); // version needed
        common.extend(0x0800_u16.to_le_bytes()); // names are UTF-8
        common.extend((method as u16).to_le_bytes());
        common.extend(dos_time(member.mtime).to_le_bytes());
        common.extend(crc.sum().to_le_bytes());
        common.extend(small(packed.len()).to_le_bytes());
        common.extend(small(content.len()).to_le_bytes());
        common.extend(u16::try_from(name.len()).expect("short name").to_le_bytes());
        common.extend([0, 0]); // no extra field
        bytes.extend(b"PK\x03\x04");
        bytes.extend(&common);
        bytes.extend(&name);
        bytes.extend(&packed);

        let attributes = match host {
            Host::Unix => (bits | member.mode) << 16,
            Host::Dos => 0x20,
        };
        directory.extend(b"PK\x01\x02");
        directory.extend([20, host as u8]);
        directory.extend(&common);
        directory.extend([0; 6]); // no comment, disk 0, binary
        directory.extend(attributes.to_le_bytes());
        directory.extend(offset.to_le_bytes());
        directory.extend(&name);
    }
    let start = small(bytes.len());
    bytes.extend(&directory);
    let count = u16::try_from(members.len()).expect("few members");
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend(count.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.extend(small(directory.len()).to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend([0, 0]);
    bytes
}

fn small(size: usize) -> u32 {
    u32::try_from(size).expect("a small archive")
}

/// DOS date and time of [`MTIME`], or midnight of the same day.
fn dos_time(mtime: u64) -> u32 {
    let date: u32 = ((2020 - 1980) << 9) | (1 << 5) | 2;
    let time: u32 = if mtime == MTIME {
        (3 << 11) | (4 << 5) | (6 / 2)
    } else {
        0
    };
    (date << 16) | time
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("deflate into memory");
    encoder.finish().expect("deflate into memory")
}

/// Compresses with gzip.
pub(crate) fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("gzip into memory");
    encoder.finish().expect("gzip into memory")
}

/// Compresses with bzip2.
pub(crate) fn bz2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).expect("bzip2 into memory");
    encoder.finish().expect("bzip2 into memory")
}

/// Compresses with xz.
pub(crate) fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = XzEncoder::new(Vec::new(), 0);
    encoder.write_all(bytes).expect("xz into memory");
    encoder.finish().expect("xz into memory")
}

/// Compresses with zstd.
pub(crate) fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("zstd into memory")
}

/// Undoes zstd.
pub(crate) fn unzst(bytes: &[u8]) -> Vec<u8> {
    zstd::decode_all(bytes).expect("zstd data")
}

/// Bytes that do not compress; the same for the same seed.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The SHA-256 in lower-case hex.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The SHA-512 in lower-case hex.
pub(crate) fn sha512_hex(bytes: &[u8]) -> String {
    hex(&Sha512::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
