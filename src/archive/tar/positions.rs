//! Where in a tar archive the content of its members is.

use super::reader::Reader;
use crate::{
    archive::{format::Compression, limits::Limits},
    error::Result,
};
use std::{
    cell::Cell,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    rc::Rc,
};
use tar::EntryType;

/// Size of one read, in bytes.
const READ: usize = 256 * 1024;

/// The content of a regular file in a tar archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) name: Vec<u8>,
    /// In bytes, from the beginning of the archive.
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

/// Returns where the files of an uncompressed tar archive are, in its order.
///
/// # Errors
/// [`crate::Error::Archive`].
pub(crate) fn positions(file: File, limits: &Limits) -> Result<Vec<Position>> {
    let consumed = Rc::new(Cell::new(0));
    let source = Counting {
        inner: BufReader::with_capacity(READ, file),
        consumed: Rc::clone(&consumed),
    };
    // Whoever made it may have left out its end, and nothing is hidden behind it.
    let mut reader = Reader::new(source, Compression::None, limits);
    let mut positions = Vec::new();
    while let Some(member) = reader.next_member()? {
        if member.kind == EntryType::Regular && member.segments.is_none() {
            positions.push(Position {
                name: member.name,
                offset: consumed.get(),
                size: member.size,
            });
        }
    }
    Ok(positions)
}

/// Counts what was taken from a reader.
struct Counting {
    inner: BufReader<File>,
    consumed: Rc<Cell<u64>>,
}

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.consumed.set(self.consumed.get() + length as u64);
        Ok(length)
    }
}

impl BufRead for Counting {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, length: usize) {
        self.consumed.set(self.consumed.get() + length as u64);
        self.inner.consume(length);
    }
}
