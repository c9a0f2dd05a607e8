//! The content of members: found, compared with what the headers say, decoded and checked.
//!
//! A small member is read with its header in one go and decoded in one piece. Everything else is a stream. The zip crate
//! decodes what is rare and needs no limit on its memory: it reads 8 KiB at a time, and when it also decoded deflated
//! members, a wheel of 274 MB took 1.06 of the time.

use super::{
    directory::Member,
    header::{self, LOCAL_LENGTH},
    local::{self, Descriptor, Local, MAX_DESCRIPTOR},
    shared_file::SharedFile,
};
use crate::{
    archive::{decode::is_window_too_large, limits::Limits, tar::read_error},
    error::{Error, Result},
    fs::Mtime,
    stream::{ReadAhead, copy_out},
};
use flate2::bufread::DeflateDecoder;
use libdeflater::{Crc, Decompressor};
use liblzma::{bufread::XzDecoder, stream::Stream};
use std::io::{self, BufRead, BufReader, Read};
use zip::{ZipReadOptions, read::read_zipfile_from_stream_with_options, result::ZipError};

/// Stored and deflated members up to this size, in bytes, are decoded in one piece, at nearly twice the speed of a
/// streaming inflate. Tried with 32 MiB: a wheel with members of 4 to 30 MB is not faster.
const WHOLE: u64 = 1 << 20;

/// How much of a stream is read and decoded at a time, in bytes.
const PIECE: usize = 256 * 1024;

/// Members from this size on, in bytes, are decoded on one thread and written by another: an archive may have one that
/// takes longer than all others together. A wheel of 274 MB with one of 788 MB takes 0.92 times the time.
pub(super) const LARGE: u64 = 4 << 20;

/// What is read beyond header, name and content at once, in bytes: extra fields and data descriptor fit in it as a rule.
const SLACK: usize = 256;

/// What liblzma takes beside the dictionary, in bytes, generously.
const LZMA_OVERHEAD: u64 = 32 << 20;

/// Compression methods that are named here.
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
const LZMA: u16 = 14;
const ZSTD: u16 = 93;
const XZ: u16 = 95;

/// Reads members of one archive. Each thread has its own.
pub(in crate::archive) struct MemberReader {
    file: SharedFile,
    limits: Limits,
    inflate: Decompressor,
    /// The beginning of the current member as it is in the archive, from its header on.
    packed: Vec<u8>,
    whole: Vec<u8>,
}

/// A member whose headers agree.
pub(in crate::archive) struct Opened<'a> {
    pub(in crate::archive) mtime: Option<Mtime>,
    pub(in crate::archive) content: Content<'a>,
}

/// The content of a member. It has to be read to its end, where it is compared with what was announced.
pub(in crate::archive) enum Content<'a> {
    /// Decoded and checked already.
    Whole(&'a [u8]),
    Stream(BufReader<Checked<Box<dyn Read + Send + 'a>>>),
}

impl MemberReader {
    pub(super) fn new(file: SharedFile, limits: Limits) -> Self {
        Self {
            file,
            limits,
            inflate: Decompressor::new(),
            packed: Vec::new(),
            whole: Vec::new(),
        }
    }

    /// Compares a member's headers without reading its content, and returns its time.
    pub(in crate::archive) fn check(&mut self, member: &Member) -> Result<Option<Mtime>> {
        let (_, local) = self.find(member, 0)?;
        Ok(local.mtime.or(member.mtime))
    }

    /// Returns a member's content.
    ///
    /// # Errors
    /// [`Error::Archive`] if the headers of the member contradict each other; for small members also if the content is
    /// not what they say.
    pub(in crate::archive) fn open(&mut self, member: &Member) -> Result<Opened<'_>> {
        let whole = matches!(member.method, STORED | DEFLATED)
            && member.size <= WHOLE
            && member.packed_size <= 2 * WHOLE;
        let wanted = if whole { member.packed_size } else { 0 };
        let (header, local) = self.find(member, wanted)?;
        let content = if whole {
            Content::Whole(self.decode_whole(member, header)?)
        } else {
            let limits = self.limits.clone();
            let stream = self.stream(member, header)?;
            let checked = Checked::new(stream, member, limits);
            Content::Stream(BufReader::with_capacity(PIECE, checked))
        };
        Ok(Opened {
            mtime: local.mtime.or(member.mtime),
            content,
        })
    }

    /// Reads the local header, checks it and what follows the content, and returns its length. Of the content, `wanted`
    /// bytes are in the buffer behind it.
    fn find(&mut self, member: &Member, wanted: u64) -> Result<(usize, Local)> {
        let beginning = LOCAL_LENGTH + member.name.len() + SLACK;
        self.fill(member, beginning as u64 + wanted)?;
        let length = header::local_length(&self.packed).ok_or_else(|| {
            member.refused("it is not where the archive's table of contents says")
        })?;
        let needed = length as u64 + wanted;
        if needed > self.packed.len() as u64 {
            self.fill(member, needed)?;
        }
        let end = member.start + length as u64 + member.packed_size;
        let (Some(header), true) = (self.packed.get(..length), end <= member.bound) else {
            return Err(member.refused("it overlaps with the next member or the table of contents"));
        };
        let local = local::check(member, header)?;
        if local.descriptor != Descriptor::None {
            let mut bytes = [0; MAX_DESCRIPTOR];
            let room = usize::try_from(member.bound - end).unwrap_or(MAX_DESCRIPTOR);
            let bytes = &mut bytes[..room.min(MAX_DESCRIPTOR)];
            self.copy_at(member, end, bytes)?;
            local::check_descriptor(member, local.descriptor, bytes)?;
        }
        Ok((length, local))
    }

    /// Reads the first `length` bytes of a member, or all up to its bound, into the buffer.
    fn fill(&mut self, member: &Member, length: u64) -> Result<()> {
        let length = length.min(member.bound - member.start);
        let length = memory_size(member, length)?;
        self.packed.resize(length, 0);
        self.file
            .read_exact_at(&mut self.packed, member.start)
            .map_err(|err| read_error(err).of_member(&member.name))
    }

    /// Copies what is at `position`, from the buffer if it is there.
    fn copy_at(&self, member: &Member, position: u64, bytes: &mut [u8]) -> Result<()> {
        let there = usize::try_from(position - member.start)
            .ok()
            .and_then(|from| self.packed.get(from..from + bytes.len()));
        match there {
            Some(there) => bytes.copy_from_slice(there),
            None => self
                .file
                .read_exact_at(bytes, position)
                .map_err(|err| read_error(err).of_member(&member.name))?,
        }
        Ok(())
    }

    /// Decodes a member whose header of `header` bytes is in the buffer with all of its content.
    fn decode_whole(&mut self, member: &Member, header: usize) -> Result<&[u8]> {
        let packed_size = memory_size(member, member.packed_size)?;
        let size = memory_size(member, member.size)?;
        let packed = &self.packed[header..header + packed_size];
        let content = if member.method == STORED {
            packed
        } else {
            self.whole.resize(size, 0);
            let inflated = self
                .inflate
                .deflate_decompress(packed, &mut self.whole)
                .map_err(|err| read_error(io::Error::other(err)).of_member(&member.name))?;
            if inflated < size {
                let missing = (size - inflated) as u64;
                return Err(member.refused(Mismatch::Short(missing).to_string()));
            }
            &self.whole
        };
        if libdeflater::crc32(content) != member.crc {
            return Err(member.refused(Mismatch::Crc.to_string()));
        }
        Ok(content)
    }

    /// Decodes the content that begins `header` bytes behind the member's beginning.
    fn stream(&mut self, member: &Member, header: usize) -> Result<Box<dyn Read + Send + '_>> {
        let start = member.start + header as u64;
        let packed = || self.file.at(start).take(member.packed_size);
        let failed = |err: io::Error| read_error(err).of_member(&member.name);
        Ok(match member.method {
            STORED => Box::new(packed()),
            DEFLATED => {
                let packed = BufReader::with_capacity(PIECE, packed());
                Box::new(DeflateDecoder::new(packed))
            }
            ZSTD => {
                let mut decoder = zstd::Decoder::new(packed()).map_err(failed)?;
                let window_log = self.limits.window.max(1).ilog2().clamp(10, 31);
                decoder.window_log_max(window_log).map_err(failed)?;
                Box::new(decoder)
            }
            LZMA => Box::new(self.lzma(member, packed())?),
            XZ => {
                let memory = self.limits.window.saturating_add(LZMA_OVERHEAD);
                let stream = Stream::new_stream_decoder(memory, 0);
                let stream = stream.map_err(|err| failed(err.into()))?;
                Box::new(XzDecoder::new_stream(BufReader::new(packed()), stream))
            }
            _ => {
                let options = ZipReadOptions::new()
                    .override_compressed_size(member.packed_size)
                    .override_uncompressed_size(member.size)
                    .ignore_crc32(true);
                self.file = self.file.at(member.start);
                let opened = read_zipfile_from_stream_with_options(&mut self.file, options);
                let opened = opened.map_err(|err| zip_error(err).of_member(&member.name))?;
                Box::new(opened.ok_or_else(|| member.refused("it is not there"))?)
            }
        })
    }

    /// Decodes LZMA, which in a zip archive has a header of its own (APPNOTE 5.8.8): from it and the member's size comes
    /// the one that liblzma knows.
    fn lzma<R: Read>(&self, member: &Member, mut packed: R) -> Result<impl Read + use<R>> {
        let mut header = [0; 9];
        packed
            .read_exact(&mut header)
            .map_err(|err| read_error(err).of_member(&member.name))?;
        let [_, _, 5, 0, properties, dictionary @ ..] = header else {
            return Err(member.refused("the header of its LZMA stream is malformed"));
        };
        if u64::from(u32::from_le_bytes(dictionary)) > self.limits.window {
            return Err(self.limits.window_error().of_member(&member.name));
        }
        let mut alone = vec![properties];
        alone.extend(dictionary);
        alone.extend(member.size.to_le_bytes());
        let memory = self.limits.window.saturating_add(LZMA_OVERHEAD);
        let stream = Stream::new_lzma_decoder(memory);
        let stream = stream.map_err(|err| read_error(err.into()).of_member(&member.name))?;
        let packed = BufReader::new(io::Cursor::new(alone).chain(packed));
        Ok(XzDecoder::new_stream(packed, stream))
    }
}

/// Returns a number of bytes as one for memory, which may have narrower ones than files.
fn memory_size(member: &Member, size: u64) -> Result<usize> {
    usize::try_from(size).map_err(|_narrow| member.refused("it is too large"))
}

impl BufRead for Content<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self {
            Self::Whole(rest) => Ok(rest),
            Self::Stream(stream) => stream.fill_buf(),
        }
    }

    fn consume(&mut self, amount: usize) {
        match self {
            Self::Whole(rest) => *rest = &rest[amount..],
            Self::Stream(stream) => stream.consume(amount),
        }
    }
}

impl Read for Content<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        copy_out(self, buf)
    }
}

impl Content<'_> {
    /// Gives the content to `write` piece by piece, to its end.
    pub(super) fn write_to(
        self,
        member: &Member,
        write: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::Stream(stream) if member.size >= LARGE => std::thread::scope(|scope| {
                write_pieces(ReadAhead::start(scope, stream), member, write)
            }),
            content => write_pieces(content, member, write),
        }
    }
}

fn write_pieces(
    mut content: impl BufRead,
    member: &Member,
    mut write: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    loop {
        let piece = content
            .fill_buf()
            .map_err(|err| read_error(err).of_member(&member.name))?;
        if piece.is_empty() {
            return Ok(());
        }
        write(piece)?;
        let length = piece.len();
        content.consume(length);
    }
}

/// How content differs from what the headers say.
#[derive(Debug, thiserror::Error)]
enum Mismatch {
    #[error("the content ends {0} bytes before its announced end")]
    Short(u64),
    #[error("the content has more than the announced {0} bytes")]
    Long(u64),
    #[error("the content is damaged: it has another CRC-32 than announced")]
    Crc,
}

/// Reads content and compares it with what was announced.
pub(in crate::archive) struct Checked<R> {
    inner: R,
    limits: Limits,
    crc: Crc,
    announced_crc: u32,
    announced_size: u64,
    left: u64,
}

impl<R> Checked<R> {
    fn new(inner: R, member: &Member, limits: Limits) -> Self {
        Self {
            inner,
            limits,
            crc: Crc::new(),
            announced_crc: member.crc,
            announced_size: member.size,
            left: member.size,
        }
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buf).map_err(|err| {
            if is_window_too_large(&err) {
                io::Error::other(self.limits.window_error())
            } else {
                err
            }
        })?;
        let mismatch = match self.left.checked_sub(length as u64) {
            None => Mismatch::Long(self.announced_size),
            Some(left) if length > 0 || buf.is_empty() => {
                self.left = left;
                self.crc.update(&buf[..length]);
                return Ok(length);
            }
            Some(0) if self.crc.sum() == self.announced_crc => return Ok(0),
            Some(0) => Mismatch::Crc,
            Some(left) => Mismatch::Short(left),
        };
        Err(io::Error::other(Error::archive(mismatch.to_string())))
    }
}

fn zip_error(err: ZipError) -> Error {
    match err {
        ZipError::Io(err) => read_error(err),
        err => Error::archive(format!("the archive is damaged: {err}")),
    }
}
