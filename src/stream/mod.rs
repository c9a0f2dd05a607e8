//! Adapters without policy, each one thing: the one border between async and blocking, and reading ahead on a thread.

pub(crate) mod bridge;
mod read_ahead;

pub(crate) use bridge::BlockingReader;
pub(crate) use read_ahead::ReadAhead;

use bytes::Bytes;
use std::io::{self, BufRead, Read};

/// A reader whose content can be had without a copy, if it is in one of its buffers.
pub(crate) trait TakeBytes: BufRead {
    /// Takes the next `length` bytes. After an error nobody knows where the reader is.
    fn take_bytes(&mut self, length: usize) -> io::Result<Bytes> {
        copy_exactly(self, length)
    }
}

impl TakeBytes for &[u8] {}

impl<R: TakeBytes> TakeBytes for &mut R {
    fn take_bytes(&mut self, length: usize) -> io::Result<Bytes> {
        (**self).take_bytes(length)
    }
}

/// Takes the next `length` bytes by copying them.
fn copy_exactly(source: &mut (impl Read + ?Sized), length: usize) -> io::Result<Bytes> {
    let mut copy = vec![0; length];
    source.read_exact(&mut copy)?;
    Ok(copy.into())
}

/// Copies out of the buffer of a reader: `Read::read` for those that are `BufRead` in the first place.
pub(crate) fn copy_out(source: &mut impl BufRead, buf: &mut [u8]) -> io::Result<usize> {
    let available = source.fill_buf()?;
    let taken = available.len().min(buf.len());
    buf[..taken].copy_from_slice(&available[..taken]);
    source.consume(taken);
    Ok(taken)
}
