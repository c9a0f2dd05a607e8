//! [`ParallelBzip2`]: bzip2 decoded block by block on several threads, in order, with bounded memory.
//!
//! ```text
//! source ─▶ Scanner (thread) ─ Job ─▶ work (threads) ─ Piece ─▶ ParallelBzip2: order, grammar, combined CRCs
//!               └──────────────── Step: the order ──────────────────┘
//! ```
//!
//! The scanner cuts at everything that looks like the magic of a block or of an end of a stream. A worker rebuilds
//! what is between two magics as if it were one block; that works out exactly if both magics are real ones. The
//! [`decoder`] it does that with takes only what is plainly right, and for all else the `bzip2` crate decides. The reader goes through the pieces in order, and only there is it known what is a
//! stream: it checks headers, footers and combined CRCs, and it joins a piece that is no block with what follows it.
//! So the outcome is that of decoding serially, whatever the data and the timing.
//!
//! The format has no specification but bzip2 1.0.8: `decompress.c` for the layout, `uncompressStream` in `bzip2.c` for
//! what may follow a stream. As there, what follows a stream and does not begin like another is ignored, padding and
//! garbage alike. Two things differ: all of it is read, so that an error of the source is never missed, and a block
//! must fit in [`MAX_PIECE`].
//!
//! Memory is bounded by a number of blocks, twice that of the workers and two. Each is kept packed and unpacked, which
//! takes 1.9 MB at most where text or programs are packed with level 9; in addition a worker takes 8 MB. But a block
//! can unpack to 46 MB (five bytes make a run of 259), and a hostile archive consists of such: workers leave blocks of
//! more than [`block::MAX_AHEAD`] to the reader, which decodes one at a time.
//!
//! Measured on a tar of 723 MB packed into 109 MB: the own decoder takes 0.37 of the processor time of the crate, and
//! 0.51 of that of lbzip2. A third of that is walking the ring, a third reading symbols, a seventh linking the rows.
//! Tables of 9 or 11 bits for symbols, or a `u64` for the front of the list, change nothing.

#![forbid(unsafe_code)]

mod bits;
mod block;
mod burrows_wheeler;
mod crc;
mod decoder;
mod huffman;
mod move_to_front;
mod scan;

use bits::Bits;
use block::{BlockDecoder, SIGNATURE, level_of, work};
use scan::{MAGIC_BITS, MAX_PIECE, Mark, Outlet, Piece, Scanner, Step};
use std::{
    io::{self, ErrorKind, Read},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, SendError, channel, sync_channel},
    },
    thread,
};

/// Bits in the header of a stream: the signature and the level.
const HEADER_BITS: usize = 32;

/// Whoever should take something is gone: there is no point in going on.
struct Stopped;

impl<T> From<SendError<T>> for Stopped {
    fn from(_: SendError<T>) -> Self {
        Self
    }
}

/// Where in the source the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before anything.
    Start,
    /// Before a block or the end of a stream.
    Stream,
    /// Behind the last stream.
    Behind,
}

/// The reading end. What it reads ends only where a stream and the source have ended; after an error, every read is
/// an error.
///
/// # Errors
/// Those of the source, unchanged, in their place behind all whole blocks; [`ErrorKind::UnexpectedEof`] for a source
/// that ends too early, [`ErrorKind::InvalidData`] for one that is not right.
pub(crate) struct ParallelBzip2 {
    /// What the threads look at to know whether they are still needed.
    _alive: Arc<()>,
    steps: Receiver<Step>,
    unread: Option<Piece>,
    source_ended: bool,
    broken: bool,
    place: Place,
    /// Of the current stream.
    level: u8,
    /// Combined CRC of the current stream up to here.
    combined: u32,
    content: Vec<u8>,
    position: usize,
}

impl ParallelBzip2 {
    /// Starts to decode `source` with one thread that reads it and `workers` threads, at least one, that decode.
    ///
    /// Dropping the reader does not wait. The workers then end behind the block they have in work, and the thread
    /// that owns the source behind the call of `read` it is in.
    ///
    /// # Errors
    /// The system does not give a thread.
    pub(crate) fn start(source: impl Read + Send + 'static, workers: u32) -> io::Result<Self> {
        let workers = workers.max(1);
        let alive = Arc::new(());
        let (steps_in, steps) = sync_channel(usize::try_from(workers).unwrap_or(1) * 2);
        let (jobs_in, jobs) = channel();
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..workers {
            let (jobs, reader) = (Arc::clone(&jobs), Arc::downgrade(&alive));
            let worker = thread::Builder::new().name("bzip2-worker".to_owned());
            worker.spawn(move || work(&jobs, &reader))?;
        }
        let outlet = Outlet {
            steps: steps_in,
            jobs: jobs_in,
            reader: Arc::downgrade(&alive),
        };
        let scanner = thread::Builder::new().name("bzip2-scanner".to_owned());
        scanner.spawn(move || Scanner::new(source, outlet).run())?;
        Ok(Self {
            _alive: alive,
            steps,
            unread: None,
            source_ended: false,
            broken: false,
            place: Place::Start,
            level: 0,
            combined: 0,
            content: Vec::new(),
            position: 0,
        })
    }

    /// Returns the next piece; `None` at the end of the source.
    fn next_piece(&mut self) -> io::Result<Option<Piece>> {
        if let Some(piece) = self.unread.take() {
            return Ok(Some(piece));
        }
        if self.source_ended {
            return Ok(None);
        }
        // A channel that is closed without a word was closed by a panic, in the source most likely.
        match self.steps.recv() {
            Ok(Step::Piece(ticket)) => match ticket.recv() {
                Ok(piece) => Ok(Some(piece)),
                Err(_) => Err(io::Error::other("a thread that decodes bzip2 has died")),
            },
            Ok(Step::End) => {
                self.source_ended = true;
                Ok(None)
            }
            Ok(Step::Failed(err)) => Err(err),
            Err(_) => Err(io::Error::other(
                "the thread that reads bzip2 data has died",
            )),
        }
    }

    /// Returns what the next block contains; `None` at the end of the source.
    fn next_content(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let piece = self.next_piece()?;
            match (self.place, piece) {
                (Place::Start, piece) => {
                    let bits = piece.map_or_else(Bits::default, |piece| piece.bits);
                    self.open_stream(bits)?;
                }
                (Place::Stream, Some(piece)) => match piece.mark {
                    Mark::Block => return self.take_block(piece).map(Some),
                    Mark::End => self.close_stream(piece.bits)?,
                    Mark::None => {
                        return Err(corrupt("the bzip2 data has no block where one must be"));
                    }
                },
                (Place::Stream, None) => return Err(truncated()),
                (Place::Behind, Some(_)) => {}
                (Place::Behind, None) => return Ok(None),
            }
        }
    }

    /// Checks the header of a stream with which `bits` should begin. A magic must follow it at once.
    fn open_stream(&mut self, mut bits: Bits) -> io::Result<()> {
        self.extend(&mut bits, HEADER_BITS)?;
        let Some(level) = level_of(bits.whole()) else {
            let first = self.place == Place::Start;
            return if SIGNATURE.starts_with(bits.whole()) && (first || bits.len() > 0) {
                Err(truncated())
            } else if first {
                Err(corrupt("this is not bzip2 data"))
            } else {
                self.place = Place::Behind;
                Ok(())
            };
        };
        (self.place, self.level, self.combined) = (Place::Stream, level, 0);
        let rest = bits.tail(HEADER_BITS);
        if rest.len() == 0 {
            return Ok(());
        }
        // Only a magic that is cut off would be right, and the decoder can tell.
        let at_end = self.next_piece()?.is_none();
        BlockDecoder::new(level)?.feed(rest.whole())?;
        Err(if at_end {
            truncated()
        } else {
            corrupt("the bzip2 data has no block behind its header")
        })
    }

    /// Checks the footer of a stream with which `bits` begin, and goes on behind it.
    fn close_stream(&mut self, mut bits: Bits) -> io::Result<()> {
        let end = bits.footer_end();
        self.extend(&mut bits, end)?;
        match bits.crc() {
            Some(crc) if crc == self.combined => self.open_stream(bits.tail(end)),
            Some(_) => Err(corrupt("the bzip2 data has a wrong combined CRC")),
            None => Err(truncated()),
        }
    }

    /// Joins `bits` with the pieces behind it until they are `length` or the source ends.
    fn extend(&mut self, bits: &mut Bits, length: usize) -> io::Result<()> {
        while bits.len() < length
            && let Some(next) = self.next_piece()?
        {
            bits.append(&next.bits);
        }
        Ok(())
    }

    /// Returns what a piece contains that begins with the magic of a block.
    fn take_block(&mut self, piece: Piece) -> io::Result<Vec<u8>> {
        let mut bits = piece.bits;
        let content = match piece.content {
            Some(content) if piece.level == self.level => content,
            // Or it unpacks to so much that it was left for now.
            Some(_) | None => self.join_block(&mut bits)?,
        };
        let crc = bits.crc().ok_or_else(truncated)?;
        self.combined = self.combined.rotate_left(1) ^ crc;
        Ok(content)
    }

    /// Decodes a block that is not complete where `bits` ends, but at a later magic if it is one at all. Each bit is
    /// decoded only once: trying again with each piece would let a hostile source take hours.
    fn join_block(&mut self, bits: &mut Bits) -> io::Result<Vec<u8>> {
        let mut decoder = BlockDecoder::new(self.level)?;
        let mut fed = 0;
        while bits.len() <= 8 * MAX_PIECE {
            let magic = bits.len();
            let next = self.next_piece()?;
            if let Some(next) = &next {
                bits.append(&next.bits);
            }
            let end = magic.div_ceil(8).min(bits.whole().len());
            decoder.feed(&bits.whole()[fed..end])?;
            fed = end;
            if next.is_none() {
                return Err(truncated());
            }
            if !decoder.content.is_empty() {
                // The block is complete, and the decoder takes this magic only if it follows at once.
                let end = ((magic + MAGIC_BITS) / 8).min(bits.whole().len());
                decoder.feed(&bits.whole()[fed..end])?;
                self.unread = next;
                return Ok(decoder.content);
            }
        }
        Err(corrupt("the bzip2 data has a block without an end"))
    }
}

impl Read for ParallelBzip2 {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.broken {
            return Err(io::Error::other("decoding bzip2 data has failed before"));
        }
        while self.position == self.content.len() && !buf.is_empty() {
            self.position = 0;
            self.content = Vec::new();
            match self.next_content() {
                Ok(Some(content)) => self.content = content,
                Ok(None) => return Ok(0),
                Err(err) => {
                    self.broken = true;
                    return Err(err);
                }
            }
        }
        let available = &self.content[self.position..];
        let taken = available.len().min(buf.len());
        buf[..taken].copy_from_slice(&available[..taken]);
        self.position += taken;
        Ok(taken)
    }
}

fn corrupt(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

fn truncated() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "the bzip2 data ends early")
}

#[cfg(test)]
mod tests;
