//! [`Blobs`]: where blobs come from, whatever that is.

use super::{BlobReader, Descriptor, Layout};
use crate::{error::Result, stream::bridge::run_blocking};
use futures::{FutureExt, future::BoxFuture};
use std::sync::Arc;

/// Something that has blobs: a layout, or a registry.
pub trait Blobs: Send + Sync {
    /// Returns what people call it.
    fn shown(&self) -> String;

    /// Returns what the tag leads to that this was opened with.
    fn top(&self) -> BoxFuture<'_, Result<Descriptor>>;

    /// Reads a blob that has `limit` bytes at most. What comes is what the descriptor says.
    fn read<'a>(&'a self, blob: &'a Descriptor, limit: u64) -> BoxFuture<'a, Result<Vec<u8>>>;

    /// Opens a blob, for a blocking reader. The reader fails where the content is not what the descriptor says.
    fn open<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<BlobReader>>;
}

/// An image of a layout.
pub struct Tagged {
    /// The layout.
    pub layout: Arc<Layout>,
    /// Which image, if it is not the only one or that tagged `latest`.
    pub tag: Option<String>,
}

impl Tagged {
    /// Looks into the layout, where that may take its time.
    fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Layout) -> Result<T> + Send + 'static,
    ) -> BoxFuture<'_, Result<T>> {
        let layout = Arc::clone(&self.layout);
        run_blocking(move || look(&layout)).boxed()
    }
}

impl Blobs for Tagged {
    fn shown(&self) -> String {
        format!("`{}`", self.layout.path().display())
    }

    fn top(&self) -> BoxFuture<'_, Result<Descriptor>> {
        let tag = self.tag.clone();
        self.look(move |layout| layout.find(tag.as_deref()))
    }

    fn read<'a>(&'a self, blob: &'a Descriptor, limit: u64) -> BoxFuture<'a, Result<Vec<u8>>> {
        let blob = blob.clone();
        self.look(move |layout| layout.read(&blob, limit))
    }

    fn open<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<BlobReader>> {
        let blob = blob.clone();
        self.look(move |layout| layout.blob(&blob))
    }
}
