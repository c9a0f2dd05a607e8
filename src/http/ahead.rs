//! [`Ahead`]: the parts of a body that are fetched before their turn, each over a connection of its own.
//!
//! Parts that have arrived wait in memory; there is room for a few of them in the whole run
//! ([`crate::http::Client::room_for_part`]), so that the memory does not depend on the number or the size of transfers.

use crate::{
    error::Result,
    http::part::{Ask, Divisible},
};
use bytes::Bytes;
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::task::AbortOnDropHandle;

/// The size of a part in bytes. At 30 MB/s it takes 70 ms, beside which the 40 ms until a distant server begins to
/// answer are tolerable. There is room for more parts than one transfer has connections, so that these need not wait
/// for the turn of what they brought; larger parts would need more memory for that.
pub(super) const PART: u64 = 2 << 20;

/// A part on its way, on a task of its own, or waiting for its turn.
pub(super) struct Arriving {
    pub(super) start: u64,
    /// Exclusive.
    pub(super) end: u64,
    chunks: mpsc::UnboundedReceiver<Result<Bytes>>,
    arrived: Arc<AtomicU64>,
    task: AbortOnDropHandle<()>,
    _room: OwnedSemaphorePermit,
}

impl Arriving {
    /// Returns the next chunk; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        self.chunks.recv().await.transpose()
    }

    /// Whether the server has begun to send it.
    fn has_begun(&self) -> bool {
        self.arrived.load(Ordering::Relaxed) > 0
    }

    fn is_running(&self) -> bool {
        !self.task.is_finished()
    }

    fn has_failed(&self) -> bool {
        let length = self.end - self.start;
        self.task.is_finished() && self.arrived.load(Ordering::Relaxed) < length
    }
}

/// Parts in the order of the content, without gaps between them.
#[derive(Default)]
pub(super) struct Ahead {
    parts: VecDeque<Arriving>,
    /// Bytes over all connections, that of the part whose turn it is included.
    arrived: Arc<AtomicU64>,
}

impl Ahead {
    /// Returns where the first part begins.
    pub(super) fn start(&self) -> Option<u64> {
        self.parts.front().map(|part| part.start)
    }

    /// Returns the first part, whose turn has come.
    pub(super) fn pop(&mut self) -> Option<Arriving> {
        self.parts.pop_front()
    }

    /// Returns where the first part begins that can take over from a connection which brings the same bytes, and forgets
    /// those that begin up to `reached` and cannot: the server does not know ranges, or the connection is so fast that
    /// another has no time to begin.
    pub(super) fn start_of_ready(&mut self, reached: u64) -> Option<u64> {
        while let Some(part) = self.parts.front()
            && part.start <= reached
        {
            if part.has_begun() && !part.has_failed() {
                return Some(part.start);
            }
            self.parts.pop_front();
        }
        None
    }

    /// Whether all connections have brought something.
    pub(super) fn has_begun(&self) -> bool {
        self.parts.iter().all(Arriving::has_begun)
    }

    /// Whether a part that waits for its turn has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.parts.iter().any(Arriving::has_failed)
    }

    /// Asks for parts until there are `connections` with that of the part whose turn it is, from `next` on if there are
    /// none yet, up to `total`. Returns whether there was room for them.
    pub(super) fn fill(
        &mut self,
        content: &Arc<Divisible>,
        connections: usize,
        next: u64,
        total: u64,
    ) -> bool {
        let mut running = 1 + self.parts.iter().filter(|part| part.is_running()).count();
        while running < connections {
            let start = self.parts.back().map_or(next, |part| part.end);
            let room = content.client.room_for_part().filter(|_| start < total);
            let Some(room) = room else {
                break;
            };
            let end = (start + PART).min(total);
            let part = begin(content, start, end, &self.arrived, room);
            self.parts.push_back(part);
            running += 1;
        }
        !self.parts.is_empty()
    }

    /// Takes notice that bytes came over the connection whose turn it is.
    pub(super) fn add_arrived(&mut self, bytes: usize) {
        self.arrived.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Returns how many bytes came over all connections.
    pub(super) fn total_arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }
}

/// Begins to fetch a part.
fn begin(
    content: &Arc<Divisible>,
    start: u64,
    end: u64,
    all: &Arc<AtomicU64>,
    room: OwnedSemaphorePermit,
) -> Arriving {
    let (sender, chunks) = mpsc::unbounded_channel();
    let arrived = Arc::new(AtomicU64::new(0));
    let task = {
        let content = Arc::clone(content);
        let counters = [Arc::clone(&arrived), Arc::clone(all)];
        async move {
            let fetched = async {
                let (_, mut body) = content.get(start, Some(end), Ask::Location).await?;
                while let Some(chunk) = body.next().await? {
                    for counter in &counters {
                        counter.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                    }
                    // Nobody takes it any more: this task is about to be aborted.
                    let _ = sender.send(Ok(chunk));
                }
                Ok(())
            };
            if let Err(err) = fetched.await {
                let _ = sender.send(Err(err));
            }
        }
    };
    Arriving {
        start,
        end,
        chunks,
        arrived,
        task: AbortOnDropHandle::new(tokio::spawn(task)),
        _room: room,
    }
}
