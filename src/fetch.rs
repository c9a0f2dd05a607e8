//! One artifact, top to bottom: open, hash and hand over every chunk, place, verify.
//!
//! Placing begins with the first chunk and runs on a thread of its own; it is told the end only when size and digest
//! of the whole are right. What it made stays in staging until [`crate::batch`] publishes it.

use crate::{
    archive::{self, Job, Limits, Placing},
    error::{Error, Kind, Result},
    fs::{self, Staging},
    http::{Body, Client, RetryPolicy, Source, retry},
    observe::{Event, Fetched, Observer},
    stream::{
        BlockingReader,
        bridge::{self, Feeder, run_blocking},
    },
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
    /// What archives may be at most.
    pub limits: Limits,
    /// Where work in progress lives.
    pub staging: Arc<Staging>,
    /// When the run began.
    pub start: Instant,
}

/// Returns the slots for placing: more than cores, since some of them wait for their network.
#[must_use]
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

        let (feeder, reader) = bridge::pipe(PIPE_DEPTH);
        let placing = run_blocking(self.job(reader));
        let observer = self.observer;
        let first_byte = Instant::now();
        let (verified, last_byte, staged) = Transfer {
            body,
            expected,
            feeder,
            placing,
            observer,
        }
        .run()
        .await?;
        observer.on_event(&Event::Finished(&Fetched {
            bytes: verified.bytes,
            sha256: verified.sha256,
            wait: first_byte - self.context.start,
            transfer: last_byte - first_byte,
            unpack: last_byte.elapsed(),
        }));
        Ok(staged)
    }

    /// Returns the job that places content. It owns what it writes in: the staging area lives as long as anybody does,
    /// and what a job made goes if it fails.
    fn job(&self, reader: BlockingReader) -> impl FnOnce() -> Result<Staged> + Send + 'static {
        let staging = Arc::clone(&self.context.staging);
        let (file_name, placing) = (self.request.file_name.clone(), self.request.placing.clone());
        let limits = self.context.limits.clone();
        move || {
            let directory = staging.fresh()?;
            let job = Job {
                directory,
                file_name,
                placing,
                limits,
            };
            match archive::place(reader, &job) {
                Ok(warnings) => Ok(Staged {
                    directory: job.directory,
                    warnings,
                }),
                Err(err) => {
                    // What cannot be removed now goes with the staging area.
                    let _ = fs::remove_tree(&job.directory);
                    Err(err)
                }
            }
        }
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

/// How far a body was moved.
enum Moved {
    /// To its end.
    Whole,
    /// Until the job that places it ended.
    UntilRefused,
}

impl<P: Future<Output = Result<Staged>>> Transfer<'_, P> {
    /// Returns what arrived, when its last byte did, and what became of it.
    async fn run(mut self) -> Result<(Verified, Instant, Staged)> {
        let mut verifier = Verifier::default();
        let failed = match self.pump(&mut verifier).await {
            Ok(Moved::UntilRefused) => return Err(self.blame(verifier).await),
            Ok(Moved::Whole) => match verifier.finish(self.expected, self.body.url()) {
                Ok(content) => {
                    let last_byte = Instant::now();
                    self.feeder.end().await;
                    return Ok((content, last_byte, self.placing.await?));
                }
                Err(err) => err,
            },
            Err(err) => err,
        };
        // The job fails as a consequence; but what it made is gone only when it has ended.
        drop(self.feeder);
        let _ = self.placing.await;
        Err(failed)
    }

    async fn pump(&mut self, verifier: &mut Verifier) -> Result<Moved> {
        let too_much = |verifier: &Verifier| {
            self.expected
                .size
                .is_some_and(|size| verifier.received() > size)
        };
        while let Some(chunk) = self.body.next().await? {
            take(verifier, &chunk, self.observer);
            if self.feeder.data(chunk).await.is_err() {
                return Ok(Moved::UntilRefused);
            }
            if too_much(verifier) {
                break;
            }
        }
        Ok(Moved::Whole)
    }

    /// Returns why the job ended early. If the content is to blame, the rest of it decides who damaged it: an archive
    /// that cannot be unpacked but is what was expected is its maker's fault, any other is the transfer's.
    async fn blame(mut self, mut verifier: Verifier) -> Error {
        let Err(refusal) = self.placing.await else {
            return Error::archive("unpacking ended before the content did");
        };
        if refusal.kind() != Kind::Archive || *self.expected == Expected::default() {
            return refusal;
        }
        loop {
            match self.body.next().await {
                Ok(Some(chunk)) => take(&mut verifier, &chunk, self.observer),
                Ok(None) => break,
                Err(err) => return err,
            }
        }
        verifier
            .finish(self.expected, self.body.url())
            .err()
            .unwrap_or(refusal)
    }
}

fn take(verifier: &mut Verifier, chunk: &[u8], observer: &dyn Observer) {
    verifier.update(chunk);
    observer.on_event(&Event::Received {
        bytes: chunk.len() as u64,
    });
}
