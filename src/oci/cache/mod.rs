//! The description of a cache that BuildKit reads: which layers are the result of what.
//!
//! It is a graph of records. A record is the name of an operation ([`super::key`]), with links to the records of what it
//! was done to, and with results: layers of the same image in a certain order. In an image the description is in the
//! configuration ([`inline`]); exported alone, it is the configuration of a manifest ([`exported`]).
//!
//! - [`model`]: the JSON of it.
//! - [`read()`]: what is said about some image, checked. It never panics, and refuses what BuildKit refuses.
//! - [`describe`]: the records of an image whose layers are fetches.

mod describe;
mod exported;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod graph;
mod inline;
pub mod model;
mod read;

pub use describe::{Added, BaseImage, Described, Fetched, Instructions, records};
pub use exported::{Blob, export};
pub use graph::{Cache, Entry, Layer, Link, Outcome};
pub use inline::encode;
pub use read::{Document, Found, read};

#[cfg(test)]
mod tests;
