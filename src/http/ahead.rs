//! [`Ahead`]: the parts of a body that are fetched before their turn, each over a connection of its own.
//!
//! One connection is enough until whoever wants the bytes has to wait for them. Then the number of connections is
//! doubled for as long as that makes the whole faster, and halved when it did not. Parts that have arrived wait in
//! memory; there is room for a few of them in the whole run ([`Client::room_for_part`]), so that the memory does not
//! depend on the number or the size of the transfers.

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
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

/// The size of a part in bytes. At 30 MB/s it takes 140 ms, beside which the 40 ms until a distant server begins to
/// answer are tolerable; with half of it a quarter of the time is lost to that.
pub(super) const PART: u64 = 4 << 20;

/// How long things are watched before they are judged.
pub(super) const WINDOW: Duration = Duration::from_millis(50);

/// What would be over sooner is left alone: it could be over before another connection brings anything.
const WORTHWHILE: Duration = Duration::from_millis(500);

/// How long the effect of new connections is watched.
const TRIAL: Duration = Duration::from_millis(150);

/// After what time more connections may be worth another trial.
const REST: Duration = Duration::from_secs(5);

/// How long a new connection may take before its effect is judged all the same.
const SETTLING: Duration = Duration::from_millis(500);

/// A silence after which another connection is asked for what one does not bring, while others bring much.
const SILENCE: Duration = Duration::from_millis(100);

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

/// Parts in the order of the content, without gaps between them, and the decision how many there should be.
pub(super) struct Ahead {
    parts: VecDeque<Arriving>,
    /// Connections to have, with that of the part whose turn it is.
    goal: usize,
    max: usize,
    stage: Stage,
    /// Bytes over all connections.
    arrived: Arc<AtomicU64>,
    /// How many they were when they were last looked at, and when that was.
    seen: u64,
    since: Instant,
    /// How long somebody waited for bytes since then.
    waited: Duration,
}

/// What is known about the number of connections.
enum Stage {
    /// More may help.
    Open,
    /// There are new ones, which have yet to begin. Before, there were so many bytes per second.
    Settling { before: f64, since: Instant },
    /// There are new ones, and now it shows what they are good for.
    Trying { before: f64 },
    /// More do not help.
    Settled { since: Instant },
}

impl Ahead {
    /// Begins with one connection; there will be at most `max`.
    pub(super) fn new(max: usize) -> Self {
        Self {
            parts: VecDeque::new(),
            goal: 1,
            max,
            stage: Stage::Open,
            arrived: Arc::default(),
            seen: 0,
            since: Instant::now(),
            waited: Duration::ZERO,
        }
    }

    /// Returns where the first part begins.
    pub(super) fn start(&self) -> Option<u64> {
        self.parts.front().map(|part| part.start)
    }

    /// Returns the first part, whose turn has come.
    pub(super) fn pop(&mut self) -> Option<Arriving> {
        self.parts.pop_front()
    }

    /// Returns whether the first part can take over from a connection that would bring the same. If not, there is
    /// nothing to be gained from more connections: the server does not know ranges, or one is so fast that another
    /// has no time to begin.
    pub(super) fn is_ready(&mut self) -> bool {
        let ready = self.parts.front().is_some_and(Arriving::has_begun);
        if !ready {
            self.give_up();
        }
        ready
    }

    /// Goes back to one connection.
    pub(super) fn give_up(&mut self) {
        self.parts.clear();
        self.goal = 1;
        self.settle();
    }

    /// Takes notice that a connection broke: perhaps there were too many of them.
    pub(super) fn slow_down(&mut self) {
        self.goal = (self.goal / 2).max(1);
        self.settle();
    }

    fn settle(&mut self) {
        self.stage = Stage::Settled {
            since: Instant::now(),
        };
    }

    /// Judges what happened, and asks for as many parts as there should be, from `next` on if there are none yet.
    /// `total` is how many bytes there are.
    pub(super) fn tend(&mut self, content: &Arc<Divisible>, total: u64, next: u64) {
        let due = match self.stage {
            Stage::Trying { .. } => TRIAL,
            _ => WINDOW,
        };
        if self.max > 1 && self.since.elapsed() >= due {
            self.judge(total);
        }
        if self.goal > 1 {
            self.fill(content, total, next);
        }
    }

    fn fill(&mut self, content: &Arc<Divisible>, total: u64, next: u64) {
        if self.parts.iter().any(Arriving::has_failed) {
            self.slow_down();
        }
        let mut running = 1 + self.parts.iter().filter(|part| part.is_running()).count();
        while running < self.goal {
            let start = self.parts.back().map_or(next, |part| part.end);
            let room = content.client.room_for_part().filter(|_| start < total);
            let Some(room) = room else {
                break;
            };
            let end = (start + PART).min(total);
            self.parts
                .push_back(begin(content, start, end, &self.arrived, room));
            running += 1;
        }
        if self.parts.is_empty() && matches!(self.stage, Stage::Settling { .. }) {
            // There is no room now, or nothing left to ask for.
            (self.goal, self.stage) = (1, Stage::Open);
        }
    }

    /// Takes notice that bytes came over the connection whose turn it is.
    pub(super) fn arrived(&mut self, bytes: usize) {
        self.arrived.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Takes notice that somebody waited so long for bytes.
    pub(super) fn waited(&mut self, time: Duration) {
        self.waited += time;
    }

    /// Judges what happened since the last time.
    fn judge(&mut self, total: u64) {
        let elapsed = self.since.elapsed();
        let arrived = self.total_arrived();
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let (rate, left) = (
            (arrived - self.seen) as f64 / elapsed.as_secs_f64(),
            total.saturating_sub(arrived) as f64,
        );
        let starved = self.waited * 2 > elapsed;
        (self.seen, self.since, self.waited) = (arrived, Instant::now(), Duration::ZERO);
        match self.stage {
            Stage::Open
                if starved && self.goal < self.max && left > rate * WORTHWHILE.as_secs_f64() =>
            {
                self.goal = (self.goal * 2).min(self.max);
                self.stage = Stage::Settling {
                    before: rate,
                    since: Instant::now(),
                };
            }
            Stage::Settling { before, since }
                if self.parts.iter().all(Arriving::has_begun) || since.elapsed() > SETTLING =>
            {
                self.stage = Stage::Trying { before };
            }
            Stage::Trying { before } if !starved || rate > before * 1.1 => {
                self.stage = Stage::Open;
            }
            Stage::Trying { .. } => self.slow_down(),
            Stage::Settled { since } if since.elapsed() > REST => self.stage = Stage::Open,
            Stage::Open | Stage::Settling { .. } | Stage::Settled { .. } => {}
        }
    }

    /// Returns how many bytes came over all connections.
    pub(super) fn total_arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Returns whether a connection that was silent for so long should be replaced, since the others brought so much
    /// in the meantime.
    pub(super) fn outruns(silent: Duration, brought: u64) -> bool {
        silent >= SILENCE && brought >= PART / 2
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
