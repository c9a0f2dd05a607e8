//! Doors to rooms that are private otherwise, for the fuzz targets in `tests/fuzz`, which build with the feature
//! `fuzzing`. Nobody else should come this way: nothing here is promised to stay.

use crate::{
    Limits, Placing, Repack,
    archive::{self, Job},
    error::Result,
    fs, http, oci,
    stream::{BlockingReader, bridge::pipe},
};
use bytes::Bytes;
use futures::FutureExt;
use std::{io, path::Path};

/// What content is called that is not extracted.
pub const FILE: &str = "content";

/// Extracts content into an empty directory, or keeps it there as [`FILE`] if it is no archive.
///
/// # Errors
/// As [`crate::fetch`] has them.
pub fn extract(content: &[u8], directory: &Path, limits: &Limits) -> Result<Vec<String>> {
    place(content, directory, Placing::Extract, limits)
}

/// Repacks content to [`FILE`] in an empty directory.
///
/// # Errors
/// As [`crate::fetch`] has them.
pub fn repack(content: &[u8], directory: &Path, repack: Repack, limits: &Limits) -> Result<()> {
    place(content, directory, Placing::Repack(repack), limits).map(drop)
}

fn place(
    content: &[u8],
    directory: &Path,
    placing: Placing,
    limits: &Limits,
) -> Result<Vec<String>> {
    let job = Job {
        directory: directory.to_owned(),
        file_name: FILE.into(),
        placing,
        limits: limits.clone(),
    };
    archive::place(reader(content), &job).map(|outcome| outcome.warnings)
}

/// Tells what content is, as text.
///
/// # Errors
/// Only windows larger than the limits allow.
pub fn sniff(content: &[u8], limits: &Limits) -> io::Result<String> {
    archive::fuzzing::sniff(reader(content), limits)
}

/// Decodes up to `most` bytes of content by what it begins with, in parallel where that is possible and serially, and
/// returns what both made of it.
pub fn decode(content: &[u8], most: u64, limits: &Limits) -> [io::Result<Vec<u8>>; 2] {
    archive::fuzzing::decode(content, most, limits)
}

/// Puts uncompressed layers of an image on top of each other in an empty directory.
///
/// # Errors
/// As taking fetches from images has them.
pub fn apply_layers(layers: &[&[u8]], directory: &Path, limits: &Limits) -> Result<()> {
    let mut limits = limits.clone();
    for layer in layers {
        let layer = io::Cursor::new(layer.to_vec());
        archive::apply_layer(layer, archive::LayerPacking::None, directory, &mut limits)?;
    }
    Ok(())
}

/// Reads the description of a cache, as an exported one and as that of an image with a few layers, and returns for either
/// how many layers there are and the layers of all results that can be used.
#[must_use]
pub fn cache(json: &[u8]) -> [Option<(usize, Vec<Vec<usize>>)>; 2] {
    oci::cache::fuzzing::read(json).map(|cache| {
        let cache = cache.ok()?;
        let outcomes = cache.entries.iter().flat_map(|entry| &entry.outcomes);
        let usable = outcomes.filter_map(|outcome| cache.layers_of(outcome).ok());
        Some((cache.layers.len(), usable.collect()))
    })
}

/// Removes a directory and what is in it, whatever its permissions.
///
/// # Errors
/// [`crate::Error::Fs`].
pub fn remove_tree(path: &Path) -> Result<()> {
    fs::remove_tree(path)
}

/// Hands content over as a transfer does, in chunks.
fn reader(content: &[u8]) -> BlockingReader {
    const CHUNK: usize = 1000;
    let (feeder, reader) = pipe(content.len() / CHUNK + 2);
    for chunk in content.chunks(CHUNK) {
        // There is room for all of them.
        let _ = feeder.data(Bytes::copy_from_slice(chunk)).now_or_never();
    }
    let _ = feeder.end().now_or_never();
    reader
}

/// Parses the value of `Content-Range`: first byte, byte after the last, length of the whole.
#[must_use]
pub fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    http::fuzzing::content_range(text)
}
