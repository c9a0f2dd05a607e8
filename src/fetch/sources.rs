//! [`Sources`]: several places that some content can be had from, which are tried in turn.

use crate::{
    error::{self, Error, Kind, Result, Retry},
    http::Source,
    observe::{Event, Observer},
};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Places in the order in which they are tried. One that fails for good is not tried again while others are left.
pub(super) struct Sources<'a> {
    left: Mutex<Vec<&'a Source>>,
    /// Whether it is better to go on to the next than to insist on one.
    pub(super) are_several: bool,
}

impl<'a> Sources<'a> {
    pub(super) fn new(sources: &'a [Source]) -> Self {
        Self {
            left: Mutex::new(sources.iter().collect()),
            are_several: sources.len() > 1,
        }
    }

    /// Tries each of those that are left once, until one succeeds.
    ///
    /// # Errors
    /// That of the last source that may do better next time, or of the very last; and whatever is not the fault of a
    /// source, at once.
    pub(super) async fn round<T, F: Future<Output = Result<T>>>(
        &self,
        observer: &dyn Observer,
        attempt: impl Fn(&'a Source) -> F,
    ) -> Result<T> {
        let round = self.left().clone();
        let mut passing = None;
        let mut lasting = Error::usage("there is no URL to download from");
        let mut ahead = round.iter().skip(1);
        for source in &round {
            let err = match attempt(source).await {
                // It has given up this source for now, which is no reason to give up the others.
                Err(Error::GaveUp { source, .. }) if self.are_several => *source,
                Err(err) if matches!(err.kind(), Kind::Network | Kind::Integrity) => err,
                ended => return ended,
            };
            if let Some(next) = ahead.next() {
                let cause = error::chain(&err);
                observer.on_event(&Event::Warning(format!(
                    "{cause}; next is {}",
                    next.shown()
                )));
            }
            let mut left = self.left();
            if err.retry() == Retry::Soon {
                passing = Some(err);
            } else {
                if left.len() > 1 {
                    left.retain(|other| !std::ptr::eq(*other, *source));
                }
                lasting = err;
            }
        }
        Err(passing.unwrap_or(lasting))
    }

    fn left(&self) -> MutexGuard<'_, Vec<&'a Source>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
