//! The border between the async side, which has sockets, and the blocking side, which has decoders and disks.
//!
//! Bytes cross as [`Step`]s, so that silence is never taken for the end: a transfer that is dropped or fails reaches
//! the reader as an error, and only the sender's word makes an end of file.

use crate::{
    error::{Error, Result},
    stream::copy_out,
};
use bytes::Bytes;
use futures::FutureExt;
use std::io::{self, BufRead, ErrorKind, Read};
use tokio::{sync::mpsc, task::JoinError};

/// What crosses the border.
enum Step {
    Data(Bytes),
    End,
}

/// The async end of a [`pipe`].
pub(crate) struct Feeder {
    steps: mpsc::Sender<Step>,
}

/// The reader is gone: its job has ended early, and its result says why.
#[derive(Debug)]
pub(crate) struct Closed;

/// The blocking end of a [`pipe`].
pub(crate) struct BlockingReader {
    steps: mpsc::Receiver<Step>,
    rest: Bytes,
    ended: bool,
}

/// Makes a pipe that holds at most `depth` chunks. Dropping the feeder without [`Feeder::end`] is an error to the
/// reader.
pub(crate) fn pipe(depth: usize) -> (Feeder, BlockingReader) {
    let (sender, steps) = mpsc::channel(depth);
    (
        Feeder { steps: sender },
        BlockingReader {
            steps,
            rest: Bytes::new(),
            ended: false,
        },
    )
}

impl Feeder {
    /// Hands over the next chunk; waits while the pipe is full.
    pub(crate) async fn data(&self, chunk: Bytes) -> std::result::Result<(), Closed> {
        self.steps
            .send(Step::Data(chunk))
            .await
            .map_err(|_unsent| Closed)
    }

    /// Says that the content is complete and right.
    pub(crate) async fn end(self) {
        // A job that has ended already does not need to know.
        let _ = self.steps.send(Step::End).await;
    }
}

impl BlockingReader {
    /// Returns the next chunk without copying it; `None` at the end.
    pub(crate) fn next_chunk(&mut self) -> io::Result<Option<Bytes>> {
        if self.fill_buf()?.is_empty() {
            return Ok(None);
        }
        Ok(Some(std::mem::take(&mut self.rest)))
    }
}

impl BufRead for BlockingReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.rest.is_empty() && !self.ended {
            match self.steps.blocking_recv() {
                Some(Step::Data(bytes)) => self.rest = bytes,
                Some(Step::End) => self.ended = true,
                None => {
                    return Err(io::Error::new(
                        ErrorKind::UnexpectedEof,
                        "the download did not finish",
                    ));
                }
            }
        }
        Ok(&self.rest)
    }

    fn consume(&mut self, amount: usize) {
        let _ = self.rest.split_to(amount);
    }
}

impl Read for BlockingReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        copy_out(self, buf)
    }
}

/// Starts a whole blocking job on a thread made for it; the future is its result. A panic in it goes on in whoever
/// awaits that.
///
/// # Cancel safety
/// A job whose future is dropped runs on to its end; what it must not outlive, it has to own. One that has not begun
/// when the runtime shuts down never does: [`Error::Cancelled`].
#[expect(clippy::disallowed_methods, reason = "the one place")]
pub(crate) fn run_blocking<T: Send + 'static>(
    job: impl FnOnce() -> Result<T> + Send + 'static,
) -> impl Future<Output = Result<T>> + Send + Unpin {
    tokio::task::spawn_blocking(job).map(|ended| ended_well(ended)?)
}

/// Returns what a task ended with, and goes on with its panic if it has panicked.
///
/// # Errors
/// [`Error::Cancelled`] for a task that was never begun or given up.
pub(crate) fn ended_well<T>(ended: std::result::Result<T, JoinError>) -> Result<T> {
    ended.map_err(|join| match join.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_given_up) => Error::Cancelled,
    })
}

#[cfg(test)]
mod tests {
    use super::{pipe, run_blocking};
    use bytes::Bytes;
    use std::io::Read;

    #[tokio::test]
    async fn an_end_is_an_end_only_when_it_is_said() {
        for finished in [true, false] {
            let (feeder, mut reader) = pipe(1);
            let job = tokio::spawn(run_blocking(move || {
                let mut text = String::new();
                Ok(reader.read_to_string(&mut text).map(|_| text))
            }));
            for chunk in ["ab", "", "c"] {
                feeder
                    .data(Bytes::from_static(chunk.as_bytes()))
                    .await
                    .unwrap();
            }
            if finished {
                feeder.end().await;
            } else {
                drop(feeder);
            }
            let text = job.await.unwrap().unwrap();
            assert_eq!(text.is_ok(), finished, "{text:?}");
            assert!(text.is_err() || text.unwrap() == "abc");
        }
    }

    #[tokio::test]
    async fn a_job_that_ended_closes_the_pipe() {
        let (feeder, reader) = pipe(1);
        drop(reader);
        assert!(feeder.data(Bytes::from_static(b"x")).await.is_err());
    }
}
