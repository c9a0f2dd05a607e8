//! What fuzz targets see of this room.

use super::{
    Limits, decode,
    format::{self, Compression, Rewindable},
};
use crate::stream::BlockingReader;
use std::{
    ffi::OsStr,
    io::{self, Cursor, Read},
};

/// See [`crate::fuzzing::sniff`].
pub(crate) fn sniff(source: BlockingReader, limits: &Limits) -> io::Result<String> {
    let name = OsStr::new(crate::fuzzing::FILE);
    format::sniff(&mut Rewindable::new(source), name, limits).map(|format| format!("{format:?}"))
}

/// See [`crate::fuzzing::decode`].
pub(crate) fn decode(content: &[u8], most: u64, limits: &Limits) -> [io::Result<Vec<u8>>; 2] {
    const THREADS: u32 = 2;
    let compression = Compression::of(content);
    let read = |decoder: io::Result<Box<dyn Read + Send>>| {
        let mut decoded = Vec::new();
        decoder?.take(most).read_to_end(&mut decoded)?;
        Ok(decoded)
    };
    let source = || Cursor::new(content.to_vec());
    [
        read(decode::parallel(compression, source(), THREADS, limits)),
        read(decode::serial(compression, source(), limits)),
    ]
}
