//! [`Shortcut`]: somewhere that has some content, or what becomes of it, so that its source need not be asked.

use super::{Context, Request, Staged};
use crate::{digest::Sha256Digest, observe::Observer, rel_path::RelPath};
use futures::future::BoxFuture;

/// Something that is to be fetched, and more about it than a fetch needs.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// What is to be fetched, and what is to become of it.
    pub request: &'a Request,
    /// For each of the request's placings, where that goes below the destination.
    pub places: &'a [RelPath],
    /// The hash of what it unpacks to, if somebody has noted that who had unpacked it. Nothing else is taken for it then.
    pub tree: Option<Sha256Digest>,
    /// Who watches it.
    pub observer: &'a dyn Observer,
}

/// Somewhere else to look before a fetch.
pub trait Shortcut: Send + Sync {
    /// Returns what is wanted, one for each of the request's placings, and as good as if it had been fetched; or nothing.
    fn take<'a>(
        &'a self,
        wanted: Wanted<'a>,
        context: &'a Context,
    ) -> BoxFuture<'a, Option<Vec<Staged>>>;
}
