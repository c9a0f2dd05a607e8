//! [`Remote`]: an image at a registry, read blob by blob.

use super::{Repository, repository::Document};
use crate::{
    error::{Error, Result},
    fetch::Context,
    fs,
    observe::Observer,
    oci::{BlobReader, Blobs, Descriptor, media_type},
    stream::bridge::run_blocking,
};
use futures::{FutureExt, future::BoxFuture};
use std::{path::PathBuf, sync::Arc};
use tokio::sync::OnceCell;

/// An image at a registry. Blobs are downloaded when they are asked for, with everything that downloads survive, and
/// verified before anybody reads them.
pub struct Remote {
    repository: Repository,
    context: Arc<Context>,
    observer: Arc<dyn Observer>,
    /// What the reference leads to.
    top: OnceCell<Document>,
}

impl Remote {
    /// Reads what the repository's reference names. `context` says where blobs are kept until they are read; `observer`
    /// hears of all of them.
    #[must_use]
    pub fn new(repository: Repository, context: Arc<Context>, observer: Arc<dyn Observer>) -> Self {
        Self {
            repository,
            context,
            observer,
            top: OnceCell::new(),
        }
    }

    async fn document(&self) -> Result<&Document> {
        let reading = || self.repository.manifest(&*self.observer);
        self.top.get_or_try_init(reading).await
    }

    async fn fetch(&self, blob: &Descriptor) -> Result<PathBuf> {
        let fetching = self
            .repository
            .fetch_blob(blob, &self.context, &*self.observer);
        fetching.await
    }

    async fn content(&self, blob: &Descriptor, limit: u64) -> Result<Vec<u8>> {
        if blob.size > limit {
            return Err(Error::Damaged {
                place: format!("blob {} of {}", blob.digest, self.repository.reference()),
                problem: format!("has {} bytes, and may have {limit} at most", blob.size),
            });
        }
        if let Some(top) = self.top.get()
            && top.descriptor.digest == blob.digest
        {
            return Ok(top.bytes.clone());
        }
        let kind = blob.media_type.as_str();
        if media_type::is_index(kind) || media_type::is_manifest(kind) {
            let document = self.repository.manifest_of(blob, &*self.observer).await?;
            return Ok(document.bytes);
        }
        let path = self.fetch(blob).await?;
        run_blocking(move || {
            let content = fs::read(&path)?;
            fs::remove_file(&path)?;
            Ok(content)
        })
        .await
    }
}

impl Blobs for Remote {
    fn shown(&self) -> String {
        self.repository.reference().to_string()
    }

    fn top(&self) -> BoxFuture<'_, Result<Descriptor>> {
        async { Ok(self.document().await?.descriptor.clone()) }.boxed()
    }

    fn read<'a>(&'a self, blob: &'a Descriptor, limit: u64) -> BoxFuture<'a, Result<Vec<u8>>> {
        self.content(blob, limit).boxed()
    }

    fn open<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<BlobReader>> {
        async move {
            let path = self.fetch(blob).await?;
            let (blob, shown) = (blob.clone(), self.shown());
            run_blocking(move || {
                let file = fs::open(&path)?;
                // It is there until it has been read, and takes no room behind that.
                fs::remove_file(&path)?;
                let place = format!("blob {} of {shown}", blob.digest);
                Ok(BlobReader::new(Box::new(file), &blob, place))
            })
            .await
        }
        .boxed()
    }
}
