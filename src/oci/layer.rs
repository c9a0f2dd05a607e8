//! From a directory to a layer in a layout's staging area, in one pass: packed, hashed, compressed, hashed again.

use super::{Descriptor, Digest, DigestWriter, Layout, StagedBlob, media_type::LayerFormat};
use crate::{
    archive::{self, Compressed, LayerPack, Stamp},
    error::Result,
    fs::Context,
    rel_path::RelPath,
};
use std::path::Path;

/// A layer that is complete, and has no name in its layout yet.
#[derive(Clone, Debug)]
pub struct NewLayer {
    /// Its blob.
    pub blob: StagedBlob,
    /// The digest of its content.
    pub diff_id: Digest,
    /// How it is compressed.
    pub format: LayerFormat,
}

impl NewLayer {
    /// Returns its descriptor.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.format.media_type(), self.blob.digest, self.blob.size)
    }
}

/// How a directory becomes a layer.
pub struct Packing<'a> {
    /// Where in the image the content goes.
    pub directory: &'a RelPath,
    /// Where the content comes from.
    pub origin: Origin,
    /// How the layer is compressed.
    pub format: LayerFormat,
    /// Asked now and then whether to go on.
    pub go_on: &'a (dyn Fn() -> bool + Sync),
}

/// Where content comes from, which decides about its modes and times.
#[derive(Clone, Copy, Debug)]
pub enum Origin {
    /// An archive that was unpacked, and what had no time in it got the epoch.
    Archive,
    /// It was downloaded and is kept as it is.
    Download,
}

/// Packs a directory.
///
/// # Errors
/// Those of reading the directory and writing the layer; [`crate::Error::Archive`] for names that no layer can have.
pub fn pack(tree: &Path, layout: &Layout, packing: &Packing<'_>) -> Result<NewLayer> {
    let stamp = match packing.origin {
        Origin::Download => Stamp::Download,
        Origin::Archive => Stamp::Unpacked,
    };
    let blob = layout.new_blob()?;
    let compressed = match packing.format {
        LayerFormat::Tar => Ok(Compressed::Plain(blob)),
        LayerFormat::Gzip => Compressed::gzip(blob),
        LayerFormat::Zstd => Compressed::zstd(blob),
    };
    let mut out = DigestWriter::new(compressed.context("write", layout.path())?);
    let pack = LayerPack {
        directory: packing.directory,
        stamp,
        go_on: packing.go_on,
    };
    archive::pack_layer(tree, &pack, &mut out)?;
    let (compressed, diff_id, _) = out.finish();
    let blob = compressed.finish().context("write", layout.path())?;
    Ok(NewLayer {
        blob: blob.finish()?,
        diff_id,
        format: packing.format,
    })
}
