//! Watching a run: [`Event`]s go to an [`Observer`], which may show them. The library itself prints nothing.

use crate::{digest::Sha256Digest, error::Error, safe_url::SafeUrl, verify::openpgp::Signer};
use std::{sync::Arc, time::Duration};

/// Something happened to one fetch.
///
/// Per attempt: one `Started`, any number of `Received` and of `Retrying` followed by `Resumed`; then `Retrying` or the end. At the end of a fetch that
/// succeeds there is one `Finished`.
#[derive(Debug)]
pub enum Event<'a> {
    /// An attempt got an answer; `size` is the length of the body in bytes, where the server says it.
    Started {
        /// Where from.
        url: &'a SafeUrl,
        /// Bytes to come, if known.
        size: Option<u64>,
    },
    /// More bytes of the body (after Content-Encoding) arrived.
    Received {
        /// How many since the last such event.
        bytes: u64,
    },
    /// The attempt failed and another one follows.
    Retrying {
        /// Why.
        cause: &'a Error,
        /// The pause before the next attempt.
        wait: Duration,
        /// The number of the retry that follows, counted from 1.
        retry: u32,
        /// How many there will be at most.
        retries: u32,
    },
    /// A broken transfer goes on where it broke off.
    Resumed {
        /// How much had arrived, in bytes.
        offset: u64,
    },
    /// The content is complete, and someone vouches for it.
    Signed(&'a Signer),
    /// The content is complete, verified and staged.
    Finished(&'a Fetched),
    /// Something was odd, but the fetch went on.
    Warning(String),
}

/// What one successful fetch did.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Bytes of the body.
    pub bytes: u64,
    /// Their digest.
    pub sha256: Sha256Digest,
    /// From the start of the run to the first byte of the attempt that succeeded.
    pub wait: Duration,
    /// From the first byte to the last.
    pub transfer: Duration,
    /// From the last byte until everything was written: what unpacking cost beyond the transfer.
    pub unpack: Duration,
}

/// Receives the events of one fetch. Must not block or panic; called from several threads.
pub trait Observer: Send + Sync {
    /// Takes notice of `event`.
    fn on_event(&self, event: &Event<'_>);
}

/// Watches nothing.
impl Observer for () {
    fn on_event(&self, _event: &Event<'_>) {}
}

impl<O: Observer + ?Sized> Observer for &O {
    fn on_event(&self, event: &Event<'_>) {
        (**self).on_event(event);
    }
}

impl<O: Observer + ?Sized> Observer for Arc<O> {
    fn on_event(&self, event: &Event<'_>) {
        (**self).on_event(event);
    }
}

/// Hears warnings only: of what is read once more, nobody needs to know but what is odd about it.
pub struct Warnings<O>(pub O);

impl<O: Observer> Observer for Warnings<O> {
    fn on_event(&self, event: &Event<'_>) {
        if let Event::Warning(_) = event {
            self.0.on_event(event);
        }
    }
}
