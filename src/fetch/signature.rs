//! The check of an OpenPGP signature, which sees the content at the same time as the job that places it.

use crate::{
    error::Result,
    fetch::{Context, PIPE_DEPTH},
    http::{Attempts, Source},
    observe::{Event, Observer},
    stream::bridge::{self, Feeder, run_blocking},
    verify::openpgp::{DetachedSignature, Keyring, Signer},
};
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use std::{sync::Arc, time::SystemTime};

/// More than any signature file has, in bytes.
const LIMIT: usize = 1 << 20;

/// What must vouch for some content.
pub struct Signed {
    /// Where the signature comes from.
    pub by: Source,
    /// The keys that are believed.
    pub keys: Keyring,
}

impl Signed {
    /// Gets the signature, trying again where that can help.
    pub(super) async fn signature(
        &self,
        context: &Context,
        observer: &dyn Observer,
    ) -> Result<Arc<DetachedSignature>> {
        let attempts = Attempts::new(&context.retry, observer);
        let file = attempts.run(|| async {
            let body = context.client.open(&self.by).await?;
            let url = body.head().url.clone();
            Ok((url, body.read_all(LIMIT).await?))
        });
        // On the heap, because this is in the way of every fetch and most have no signature.
        let (url, file) = file.boxed().await?;
        DetachedSignature::parse(&url, &file, &self.keys, SystemTime::now()).map(Arc::new)
    }
}

/// A check under way. Dropping it makes it end.
pub(super) struct Checking {
    feeder: Feeder,
    verdict: BoxFuture<'static, Result<Vec<Signer>>>,
}

impl Checking {
    pub(super) fn start(signature: Arc<DetachedSignature>) -> Self {
        let (feeder, reader) = bridge::pipe(PIPE_DEPTH);
        let verdict = run_blocking(move || signature.check(reader)).boxed();
        Self { feeder, verdict }
    }

    /// Shows it the next chunk; waits while it is behind.
    pub(super) async fn data(&mut self, chunk: &Bytes) {
        // If it has ended, then because it has failed; the verdict says so.
        let _ = self.feeder.data(chunk.clone()).await;
    }

    /// Says that the content is complete, waits for the verdict and tells who signed.
    pub(super) async fn finish(self, observer: &dyn Observer) -> Result<()> {
        self.feeder.end().await;
        for signer in self.verdict.await? {
            observer.on_event(&Event::Signed(&signer));
            for warning in signer.warnings {
                observer.on_event(&Event::Warning(warning));
            }
        }
        Ok(())
    }
}
