//! What some content is, told by its bytes and not by its name: wheels are zips, and a `.tar.gz` may be neither.

use crate::{
    archive::{
        decode,
        limits::Limits,
        tar::header::{BLOCK, has_checksum},
    },
    stream::{BlockingReader, copy_out},
};
use bytes::Bytes;
use std::{
    collections::VecDeque,
    ffi::OsStr,
    io::{self, BufRead, Read},
    os::unix::ffi::OsStrExt,
};

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Not at all.
    None,
    /// RFC 1952, any number of members.
    Gzip,
    /// Any number of streams.
    Bzip2,
    /// Any number of streams and blocks.
    Xz,
    /// What LZMA Utils made before there was xz.
    Lzma,
    /// RFC 8878, any number of frames, skippable ones included.
    Zstd,
}

impl Compression {
    /// Returns whether data that is cut off is an error to the decoder.
    pub(super) fn tells_its_end(self) -> bool {
        self != Self::None
    }
}

/// What some content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A tar archive, compressed or not.
    Tar(Compression),
    /// A zip archive.
    Zip,
    /// Anything else, compressed data that is not a tar archive included.
    Other,
}

/// How much may be read in search of the first 512 decoded bytes: a bzip2 block or some skippable zstd frames.
const SNIFF_LIMIT: usize = 8 << 20;

/// How much of content tells its compression.
const MAGIC: usize = 14;

impl Compression {
    pub(super) fn of(magic: &[u8]) -> Self {
        match magic {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [b'B', b'Z', b'h', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            // RFC 8878: a frame, or a skippable frame (0x184D2A50 to 5F), with which pzstd begins.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ if is_lzma(magic) => Self::Lzma,
            _ => Self::None,
        }
    }
}

/// Returns whether content can be `.lzma`, which has no magic number: usual properties, a dictionary that is a power of
/// two or one and a half or the largest of all (as for `xz`), a size that is sane or not known, and the zero that LZMA
/// data begin with.
fn is_lzma(magic: &[u8]) -> bool {
    let [0x5d, d0, d1, d2, d3, size @ .., 0] = magic else {
        return false;
    };
    let dictionary = u32::from_le_bytes([*d0, *d1, *d2, *d3]);
    let power = dictionary & dictionary.wrapping_sub(1);
    size.len() == 8
        && dictionary >= 1 << 12
        && (power == 0 || power == dictionary / 3 * 2 || dictionary == u32::MAX)
        && (size == [0xff; 8] || size[5..] == [0; 3])
}

/// A reader that can be read from the start again until [`sniff`] has seen enough.
pub(crate) struct Rewindable {
    head: VecDeque<Bytes>,
    rest: BlockingReader,
}

impl Rewindable {
    pub(crate) fn new(rest: BlockingReader) -> Self {
        Self {
            head: VecDeque::new(),
            rest,
        }
    }

    /// Returns the next chunk without copying it; `None` at the end.
    pub(crate) fn next_chunk(&mut self) -> io::Result<Option<Bytes>> {
        match self.head.pop_front() {
            Some(chunk) => Ok(Some(chunk)),
            None => self.rest.next_chunk(),
        }
    }
}

impl BufRead for Rewindable {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.head.front().is_some_and(Bytes::is_empty) {
            self.head.pop_front();
        }
        match self.head.front() {
            Some(chunk) => Ok(chunk),
            None => self.rest.fill_buf(),
        }
    }

    fn consume(&mut self, amount: usize) {
        match self.head.front_mut() {
            Some(chunk) => drop(chunk.split_to(amount)),
            None => self.rest.consume(amount),
        }
    }
}

impl Read for Rewindable {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        copy_out(self, buf)
    }
}

/// Reads a [`Rewindable`] from its start and leaves it there. Keeps an error of the source, which a decoder would
/// pass on as one of its own.
struct Peek<'a> {
    source: &'a mut Rewindable,
    chunk: usize,
    offset: usize,
    seen: usize,
    failed: Option<io::Error>,
}

impl BufRead for Peek<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self
            .source
            .head
            .get(self.chunk)
            .is_some_and(|chunk| self.offset == chunk.len())
        {
            self.chunk += 1;
            self.offset = 0;
        }
        if self.chunk == self.source.head.len() {
            if self.seen > SNIFF_LIMIT {
                return Ok(&[]);
            }
            match self.source.rest.next_chunk() {
                Ok(None) => return Ok(&[]),
                Ok(Some(chunk)) => {
                    self.seen += chunk.len();
                    self.source.head.push_back(chunk);
                }
                Err(err) => {
                    let kind = err.kind();
                    self.failed = Some(err);
                    return Err(kind.into());
                }
            }
        }
        Ok(self
            .source
            .head
            .get(self.chunk)
            .map_or(&[], |chunk| &chunk[self.offset..]))
    }

    fn consume(&mut self, amount: usize) {
        self.offset += amount;
    }
}

impl Read for Peek<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        copy_out(self, buf)
    }
}

/// Finds out what a stream is, and rewinds it.
///
/// # Errors
/// Those of the stream itself, and windows that are too large to see what is in it. What cannot be decoded for other
/// reasons is a damaged archive if its name says so, and otherwise none.
pub(crate) fn sniff(source: &mut Rewindable, name: &OsStr, limits: &Limits) -> io::Result<Format> {
    let mut magic = Vec::new();
    peek(source, |peek| {
        peek.take(MAGIC as u64).read_to_end(&mut magic)
    })?;
    // Local file header, or the end record of an empty archive. The Python tool takes any `PK` for a zip.
    if magic.starts_with(b"PK\x03\x04")
        || magic.starts_with(b"PK\x05\x06")
        || magic.starts_with(b"PK\x07\x08")
        // What was meant to be on several disks and then fit on one.
        || magic.starts_with(b"PK00PK\x03\x04")
    {
        return Ok(Format::Zip);
    }
    let compression = Compression::of(&magic);
    let mut header = Vec::new();
    let undecoded = peek(source, |peek| {
        decode::serial(compression, peek, limits)?
            .take(BLOCK as u64)
            .read_to_end(&mut header)
    })?;
    if undecoded.as_ref().is_some_and(decode::is_window_too_large) {
        return Err(io::Error::other(limits.window_error()));
    }
    let is_tar = match <[u8; BLOCK]>::try_from(header) {
        // An archive of nothing has no header.
        Ok(header) => is_tar_header(&header) || (header == [0; BLOCK] && is_named_tar(name)),
        Err(_short) => undecoded.is_some() && is_named_tar(name),
    };
    Ok(if is_tar {
        Format::Tar(compression)
    } else {
        Format::Other
    })
}

/// Runs `read` over the beginning of `source`. Returns failures to decode; failures to read are errors.
fn peek(
    source: &mut Rewindable,
    read: impl FnOnce(&mut Peek<'_>) -> io::Result<usize>,
) -> io::Result<Option<io::Error>> {
    let mut peek = Peek {
        source,
        chunk: 0,
        offset: 0,
        seen: 0,
        failed: None,
    };
    let undecoded = read(&mut peek).err();
    peek.failed.map_or(Ok(undecoded), Err)
}

/// Returns whether a name is that of a tar archive.
fn is_named_tar(name: &OsStr) -> bool {
    let mut suffixes = name.as_bytes().rsplit(|&byte| byte == b'.');
    let last = suffixes.next().unwrap_or_default();
    matches!(last, b"tar" | b"tgz" | b"tbz2" | b"txz" | b"tzst") || suffixes.next() == Some(b"tar")
}

/// Returns whether a block is a tar header: POSIX or GNU magic at offset 257, or (v7) a right checksum.
fn is_tar_header(block: &[u8; BLOCK]) -> bool {
    let magic = &block[257..265];
    magic == b"ustar\x0000" || magic == b"ustar  \0" || has_checksum(block)
}

#[cfg(test)]
mod tests {
    use super::{Compression, Format, Limits, Rewindable, sniff};
    use crate::stream::bridge::{pipe, run_blocking};
    use bytes::Bytes;
    use std::{
        ffi::OsStr,
        io::{Read, Write},
    };

    fn tar(entries: usize) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for n in 0..entries {
            let mut header = tar::Header::new_ustar();
            header.set_size(3);
            header.set_mode(0o644);
            builder
                .append_data(&mut header, format!("file{n}"), &b"abc"[..])
                .unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn compress(compression: Compression, content: &[u8]) -> Vec<u8> {
        match compression {
            Compression::None => content.to_vec(),
            Compression::Gzip => {
                let mut encoder =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Bzip2 => {
                let mut encoder =
                    bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Xz => {
                let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Lzma => {
                let options = liblzma::stream::LzmaOptions::new_preset(1).unwrap();
                let stream = liblzma::stream::Stream::new_lzma_encoder(&options).unwrap();
                let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Zstd => zstd::encode_all(content, 1).unwrap(),
        }
    }

    /// Sniffs content that arrives in chunks of `size`, and returns what can be read afterwards.
    async fn sniff_chunks(content: &[u8], size: usize) -> (Format, Vec<u8>) {
        sniff_named("content", content, size).await
    }

    async fn sniff_named(name: &'static str, content: &[u8], size: usize) -> (Format, Vec<u8>) {
        let name = OsStr::new(name);
        let (feeder, reader) = pipe(4);
        let job = tokio::spawn(run_blocking(move || {
            let mut source = Rewindable::new(reader);
            let format = sniff(&mut source, name, &Limits::default()).unwrap();
            let mut content = Vec::new();
            source.read_to_end(&mut content).unwrap();
            Ok((format, content))
        }));
        for chunk in content.chunks(size) {
            feeder.data(Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        feeder.end().await;
        job.await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn archives_are_told_from_files_by_content_and_nothing_is_lost() {
        use Compression::{Bzip2, Gzip, Lzma, None, Xz, Zstd};
        for compression in [None, Gzip, Bzip2, Xz, Lzma, Zstd] {
            for size in [1, 7, 100_000] {
                let archive = compress(compression, &tar(3));
                assert_eq!(
                    sniff_chunks(&archive, size).await,
                    (Format::Tar(compression), archive)
                );
                let text = compress(compression, "no archive at all\n".repeat(50).as_bytes());
                assert_eq!(sniff_chunks(&text, size).await, (Format::Other, text));
            }
        }
    }

    #[tokio::test]
    async fn what_only_looks_like_an_archive_is_a_file() {
        for content in [
            &b""[..],
            b"P",
            b"PK is my name",
            b"\x1f\x8b",
            b"BZh9 nonsense",
            &[0; 1024],
            b"\xfd7zXZ\0broken",
        ] {
            assert_eq!(
                sniff_chunks(content, 3).await,
                (Format::Other, content.to_vec())
            );
        }
        assert_eq!(sniff_chunks(b"PK\x03\x04rest", 2).await.0, Format::Zip);
    }

    #[tokio::test]
    async fn an_archive_of_nothing_is_known_by_its_name() {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let archive = compress(compression, &[0; 10240]);
            for (name, is_tar) in [
                ("a.tar", true),
                ("a.tar.gz", true),
                ("a-1.2.tgz", true),
                ("a.img", false),
                ("tar", true),
                ("star", false),
                ("a.tar.d.img", false),
            ] {
                let format = sniff_named(name, &archive, 500).await.0;
                assert_eq!(format == Format::Tar(compression), is_tar, "{name}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_cut_off_before_its_first_header_is_known_by_its_name() {
        for (content, compression) in [
            (&b"\x1f\x8b\x08"[..], Compression::Gzip),
            (b"BZh9 damaged", Compression::Bzip2),
            (b"\xfd7zXZ\0", Compression::Xz),
            (b"\x28\xb5\x2f\xfd", Compression::Zstd),
        ] {
            for (name, format) in [
                ("a.tar.any", Format::Tar(compression)),
                ("a.txt", Format::Other),
            ] {
                assert_eq!(sniff_named(name, content, 5).await.0, format, "{name}");
            }
        }
        // The name may be that of what is made of it.
        assert_eq!(sniff_named("a.tar.zst", b"text", 5).await.0, Format::Other);
    }

    #[tokio::test]
    async fn an_old_archive_without_magic_is_known_by_its_checksum() {
        let mut header = tar::Header::new_old();
        header.set_path("old").unwrap();
        header.set_size(0);
        header.set_cksum();
        let mut archive = header.as_bytes().to_vec();
        archive.extend([0; 1024]);
        assert_eq!(sniff_chunks(&archive, 600).await.0, Format::Tar(None));
        archive[0] ^= 1;
        assert_eq!(sniff_chunks(&archive, 600).await.0, Format::Other);
    }

    use Compression::None;

    #[tokio::test]
    async fn a_skippable_frame_in_front_is_still_zstd() {
        let mut archive = vec![0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
        archive.extend(compress(Compression::Zstd, &tar(1)));
        assert_eq!(
            sniff_chunks(&archive, 5).await.0,
            Format::Tar(Compression::Zstd)
        );
    }

    #[tokio::test]
    async fn a_broken_download_is_not_taken_for_a_file() {
        let (feeder, reader) = pipe(4);
        feeder
            .data(Bytes::from_static(b"\x1f\x8b\x08"))
            .await
            .unwrap();
        drop(feeder);
        let result = run_blocking(move || {
            Ok(sniff(
                &mut Rewindable::new(reader),
                OsStr::new("a.tar"),
                &Limits::default(),
            ))
        })
        .await
        .unwrap();
        assert!(result.is_err());
    }
}
