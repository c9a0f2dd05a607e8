//! Fetches as layers of images: OCI image layouts, and the cache that BuildKit reads from them.
//!
//! - [`Layout`]: a directory (or a tar of one) with blobs, and an index of what is tagged.
//! - [`registry`]: images elsewhere, and how they get here and there.
//! - [`Digest`], [`Descriptor`], [`Manifest`], [`Index`], [`ImageConfig`], [`media_type`]: what is in the blobs.
//!
//! What is written is canonical: the same content gives the same bytes, and with them the same digest.

mod blobs;
pub mod cache;
mod config;
pub(crate) mod content;
mod descriptor;
mod digest;
pub mod image;
pub mod import;
pub mod inspect;
pub mod key;
pub mod layer;
mod layout;
mod manifest;
pub mod media_type;
pub mod registry;

pub use blobs::{Blobs, Tagged};
pub use config::{HistoryEntry, ImageConfig};
pub use descriptor::{Descriptor, Platform};
pub use digest::{Digest, DigestWriter};
pub use layout::{BlobReader, Layout, MAX_CONFIG, MAX_MANIFEST, NewBlob, StagedBlob, tag_of};
pub use manifest::{Index, Manifest};
