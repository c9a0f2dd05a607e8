//! One artifact, top to bottom: open, hash and hand over every chunk, place, verify.
//!
//! Placing begins with the first chunk and runs on a thread of its own; it is told the end only when size and digest
//! of the whole are right. What it made stays in staging until [`crate::batch`] publishes it.

use crate::{
    archive::{self, Job, Placing},
    error::{Error, Kind, Result},
    fs::{self, Staging},
    http::{Body, Client, RetryPolicy, Source, retry},
    observe::{Event, Fetched, Observer},
    stream::bridge::{self, Feeder, run_blocking},
    verify::{Expectation, Expected, Verified, Verifier},
};
use std::{ffi::OsString, path::PathBuf, sync::Arc, time::Instant};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

/// Chunks between a socket and the job that places them. One is at most about 400 kB (what hyper reads at once).
const PIPE_DEPTH: usize = 4;

/// One thing to fetch.
pub struct Request {
    /// What people call it.
    pub name: String,
    /// Where it comes from.
    pub source: Source,
    /// What it must be.
    pub expected: Expectation,
    /// What to do with it.
    pub placing: Placing,
    /// Its name, where it is kept as a file.
    pub file_name: OsString,
}

/// What all fetches of a run share.
pub struct Context {
    /// Talks to servers.
    pub client: Client,
    /// How often and when to try again.
    pub retry: RetryPolicy,
    /// How many contents are placed at once. Bounds memory: decoders have windows of many megabytes.
    pub placing_slots: Arc<Semaphore>,
    /// Where work in progress lives.
    pub staging: Arc<Staging>,
    /// When the run began.
    pub start: Instant,
}

/// Returns the slots for placing: more than cores, since some of them wait for their network.
pub fn placing_slots() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(archive::cores() + 2))
}

/// Content that is verified and placed in a directory of the staging area.
#[derive(Debug)]
pub struct Staged {
    /// The directory that holds the file or what was in the archive.
    pub directory: PathBuf,
    /// What was odd about it.
    pub warnings: Vec<String>,
}

/// Fetches one thing into staging, trying again where that can help.
///
/// # Errors
/// Whatever the last attempt failed with; nothing of it is left.
///
/// # Cancel safety
/// When dropped, the job that places stops at its next chunk and removes what it made.
pub async fn fetch(
    request: &Request,
    context: &Context,
    observer: &dyn Observer,
) -> Result<Staged> {
    let expected = OnceCell::new();
    let slot = OnceCell::new();
    let attempt = || {
        Attempt {
            request,
            context,
            observer,
            expected: &expected,
            slot: &slot,
        }
        .run()
    };
    retry(&context.retry, observer, attempt).await
}

/// One try. What it learned or got hold of and can be used by the next one is kept in cells.
struct Attempt<'a> {
    request: &'a Request,
    context: &'a Context,
    observer: &'a dyn Observer,
    expected: &'a OnceCell<Expected>,
    slot: &'a OnceCell<OwnedSemaphorePermit>,
}

impl Attempt<'_> {
    async fn run(self) -> Result<Staged> {
        let (body, expected) = tokio::try_join!(
            self.context.client.open(&self.request.source),
            self.expected.get_or_try_init(|| (self.request.expected)())
        )?;
        expected.check_announced(body.url(), body.length(), body.cache_status())?;
        self.observer.on_event(&Event::Started {
            url: body.url(),
            size: body.length(),
        });
        self.slot.get_or_try_init(|| self.slot()).await?;

        let directory = self.context.staging.fresh()?;
        let (feeder, reader) = bridge::pipe(PIPE_DEPTH);
        let job = Job {
            directory: directory.clone(),
            file_name: self.request.file_name.clone(),
            placing: self.request.placing.clone(),
        };
        let staging = Arc::clone(&self.context.staging);
        let placing = run_blocking(move || {
            let placed = archive::place(reader, &job);
            if placed.is_err() {
                fs::remove_tree(&job.directory)?;
            }
            // The staging area lives as long as anybody writes in it.
            drop(staging);
            placed
        });
        let first_byte = Instant::now();
        let (verified, placing) = Transfer {
            body,
            expected,
            feeder,
            placing,
            observer: self.observer,
        }
        .run()
        .await?;
        let last_byte = Instant::now();
        let warnings = placing.await?;
        self.observer.on_event(&Event::Finished(&Fetched {
            bytes: verified.bytes,
            sha256: verified.sha256,
            wait: first_byte - self.context.start,
            transfer: last_byte - first_byte,
            unpack: last_byte.elapsed(),
        }));
        Ok(Staged {
            directory,
            warnings,
        })
    }

    /// Waits for a turn to place content. It is kept through retries: a connection that was dropped while waiting for
    /// it has cost nothing yet.
    async fn slot(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.context.placing_slots)
            .acquire_owned()
            .await
            .map_err(|_closed| Error::Cancelled)
    }
}

/// Moves a body through hash and border.
struct Transfer<'a, P> {
    body: Body,
    expected: &'a Expected,
    feeder: Feeder,
    placing: P,
    observer: &'a dyn Observer,
}

impl<P: Future<Output = Result<Vec<String>>> + Unpin> Transfer<'_, P> {
    /// Returns what arrived, and the job, which has been told the end and can be waited for.
    async fn run(mut self) -> Result<(Verified, P)> {
        let url = self.body.url().clone();
        let mut verifier = Verifier::default();
        let moved = self.pump(&mut verifier).await;
        let Self {
            expected,
            feeder,
            placing,
            ..
        } = self;
        let verified = moved.and_then(|()| verifier.finish(expected, &url));
        match verified {
            Ok(verified) => {
                feeder.end().await;
                Ok((verified, placing))
            }
            Err(err) => {
                drop(feeder);
                // Its failure is a consequence; but what it made is gone only when it has ended.
                let _ = placing.await;
                Err(err)
            }
        }
    }

    async fn pump(&mut self, verifier: &mut Verifier) -> Result<()> {
        while let Some(chunk) = self.body.next().await? {
            self.take(verifier, &chunk);
            if self.feeder.data(chunk).await.is_err() {
                return self.blame(verifier).await;
            }
            if self
                .expected
                .size
                .is_some_and(|size| verifier.received() > size)
            {
                return Ok(());
            }
        }
        Ok(())
    }

    fn take(&self, verifier: &mut Verifier, chunk: &[u8]) {
        verifier.update(chunk);
        self.observer.on_event(&Event::Received {
            bytes: chunk.len() as u64,
        });
    }

    /// The job ended early. If the content is to blame, the rest decides by whom it was damaged: an archive that
    /// cannot be unpacked but is what was expected is its maker's fault, any other is the transfer's.
    async fn blame(&mut self, verifier: &mut Verifier) -> Result<()> {
        let err = match (&mut self.placing).await {
            Err(err) => err,
            Ok(_) => Error::archive("unpacking ended before the content did"),
        };
        if err.kind() == Kind::Archive && *self.expected != Expected::default() {
            while let Some(chunk) = self.body.next().await? {
                self.take(verifier, &chunk);
            }
            std::mem::take(verifier).finish(self.expected, self.body.url())?;
        }
        Err(err)
    }
}
