//! One block: decoding it as a stream of its own, which is what the workers do.

use super::{
    bits::Bits,
    decoder::{Decoder, LEVEL_UNIT},
    scan::{END_MAGIC, Piece},
};
use bzip2::{Decompress, Status};
use std::{
    io::{self, ErrorKind},
    sync::{
        Mutex, Weak,
        mpsc::{Receiver, SyncSender},
    },
};

/// How a stream begins; the level follows, as a digit.
pub(super) const SIGNATURE: &[u8; 3] = b"BZh";

/// Returns the level if the bytes begin with the header of a stream.
pub(super) fn level_of(header: &[u8]) -> Option<u8> {
    match header.strip_prefix(SIGNATURE)? {
        [digit @ b'1'..=b'9', ..] => Some(digit - b'0'),
        _ => None,
    }
}

/// What a block may unpack to in a worker, in bytes: several times what is usual. Those that unpack to more are decoded
/// by the reader, one after the other, so that a bomb does not fill the queue with blocks of 46 MB.
pub(super) const MAX_AHEAD: usize = 8 << 20;

/// A piece to be decoded.
pub(super) struct Job {
    /// A piece that begins with the magic of a block.
    pub(super) piece: Piece,
    /// Where it goes then. Holds one.
    pub(super) reply: SyncSender<Piece>,
}

/// Decodes blocks until there are no more or the reader is gone.
pub(super) fn work(jobs: &Mutex<Receiver<Job>>, reader: &Weak<()>) {
    let mut decoder = Decoder::new();
    while let Some(Job { mut piece, reply }) = next(jobs)
        && reader.strong_count() > 0
    {
        // Why it is no block is found out by whoever needs it. The crate decides about all that the own decoder leaves.
        piece.content = decoder
            .decode(&piece.bits, piece.level, MAX_AHEAD)
            .or_else(|| decode(&piece.bits, piece.level).ok());
        // The reader may be gone.
        let _ = reply.send(piece);
    }
}

fn next(jobs: &Mutex<Receiver<Job>>) -> Option<Job> {
    jobs.lock().ok()?.recv().ok()
}

/// Decodes bits that are exactly one block, which is checked, with the crate.
pub(super) fn decode(bits: &Bits, level: u8) -> io::Result<Vec<u8>> {
    let (whole, rest) = bits.split();
    let crc = bits.crc().ok_or(ErrorKind::UnexpectedEof)?;
    // The footer of the stream of one block, whose combined CRC is that of the block; it starts at any bit.
    let footer = u128::from(END_MAGIC) << 32 | u128::from(crc);
    let used = bits.len() % 8;
    let mut tail = (footer << (48 - used)).to_be_bytes();
    tail[0] |= rest.unwrap_or(0);

    let mut decoder = BlockDecoder::new(level)?;
    decoder.most = MAX_AHEAD;
    decoder.feed(whole)?;
    match decoder.feed(&tail[..10 + used.div_ceil(8)])? {
        Fed::Ended => Ok(decoder.content),
        Fed::Hungry => Err(ErrorKind::InvalidData.into()),
    }
}

/// What a decoder says when it has taken all input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fed {
    /// It would take more.
    Hungry,
    /// It has seen the end of the stream, and its combined CRC was right.
    Ended,
}

/// The decoder of a stream that begins with a block.
pub(super) struct BlockDecoder {
    decoder: Decompress,
    /// All that has come out.
    pub(super) content: Vec<u8>,
    /// How much may come out.
    most: usize,
}

impl BlockDecoder {
    /// Begins a stream of the level.
    pub(super) fn new(level: u8) -> io::Result<Self> {
        let mut decoder = Self {
            decoder: Decompress::new(false),
            content: Vec::with_capacity(LEVEL_UNIT * usize::from(level) + LEVEL_UNIT),
            most: usize::MAX,
        };
        decoder.feed(SIGNATURE)?;
        decoder.feed(&[b'0' + level])?;
        Ok(decoder)
    }

    /// Decodes more bytes, all of them. A block comes out once its last bit is in, and then its CRC was right.
    pub(super) fn feed(&mut self, input: &[u8]) -> io::Result<Fed> {
        let mut rest = input;
        loop {
            if self.content.len() == self.content.capacity() {
                self.content.reserve(LEVEL_UNIT);
            }
            let (taken, given) = (self.decoder.total_in(), self.content.len());
            let status = self
                .decoder
                .decompress_vec(rest, &mut self.content)
                .map_err(invalid)?;
            let taken = usize::try_from(self.decoder.total_in() - taken).unwrap_or(rest.len());
            rest = &rest[taken..];
            match status {
                Status::StreamEnd if rest.is_empty() => return Ok(Fed::Ended),
                Status::MemNeeded => return Err(ErrorKind::OutOfMemory.into()),
                _ if self.content.len() > self.most => return Err(ErrorKind::OutOfMemory.into()),
                _ if rest.is_empty() && self.content.len() < self.content.capacity() => {
                    return Ok(Fed::Hungry);
                }
                _ if taken > 0 || self.content.len() > given => {}
                _ => return Err(ErrorKind::InvalidData.into()),
            }
        }
    }
}

fn invalid(err: bzip2::Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, err)
}
