//! Adapters without policy, each one thing: the one border between async and blocking, and reading ahead on a thread.

pub(crate) mod bridge;
mod read_ahead;

pub(crate) use bridge::BlockingReader;
pub(crate) use read_ahead::ReadAhead;

use std::io::{self, BufRead};

/// Copies out of the buffer of a reader: `Read::read` for those that are `BufRead` in the first place.
pub(crate) fn copy_out(source: &mut impl BufRead, buf: &mut [u8]) -> io::Result<usize> {
    let available = source.fill_buf()?;
    let taken = available.len().min(buf.len());
    buf[..taken].copy_from_slice(&available[..taken]);
    source.consume(taken);
    Ok(taken)
}
