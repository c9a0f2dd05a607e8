//! [`Pilot`]: how many connections one transfer should have.
//!
//! One is enough until whoever wants the bytes has to wait for them. Then there are more, for as long as that makes the
//! whole faster; and fewer again when it does not, or when the bytes come faster than they are wanted.

use std::time::Duration;
use tokio::time::Instant;

/// How long things are watched before they are judged.
pub(super) const WINDOW: Duration = Duration::from_millis(50);

/// How long the effect of new connections is watched.
const TRIAL: Duration = Duration::from_millis(100);

/// How long a new connection may take before its effect is judged all the same.
const SETTLING: Duration = Duration::from_millis(500);

/// After what time more connections may be worth another trial. It doubles with every trial that failed.
const REST: Duration = Duration::from_secs(5);

/// What would be over sooner is left alone: it could be over before another connection brings anything.
const WORTHWHILE: Duration = Duration::from_millis(250);

/// How many times as many connections are tried.
const STEP: usize = 4;

/// Decides from what arrives and from how long it was waited for.
pub(super) struct Pilot {
    /// Connections to have.
    goal: usize,
    max: usize,
    stage: Stage,
    rest: Duration,
    /// Bytes that had arrived when that was last looked at, and when that was.
    seen: u64,
    since: Instant,
    /// How long somebody waited for bytes since then.
    waited: Duration,
}

/// What is known about the number of connections.
#[derive(Clone, Copy)]
enum Stage {
    /// More may help.
    Open,
    /// There are new ones, which have yet to begin. Before, there were so many connections and bytes per second.
    Settling { before: Before },
    /// There are new ones, and now it shows what they are good for.
    Trying { before: Before },
    /// More do not help.
    Settled { since: Instant },
}

#[derive(Clone, Copy)]
struct Before {
    goal: usize,
    rate: f64,
}

impl Pilot {
    /// Begins with one connection; there will be at most `max`.
    pub(super) fn new(max: usize) -> Self {
        Self {
            goal: 1,
            max,
            stage: Stage::Open,
            rest: REST,
            seen: 0,
            since: Instant::now(),
            waited: Duration::ZERO,
        }
    }

    /// Returns how many connections there should be.
    pub(super) fn goal(&self) -> usize {
        self.goal
    }

    /// Takes notice that somebody waited so long for bytes.
    pub(super) fn waited(&mut self, time: Duration) {
        self.waited += time;
    }

    /// Takes notice that a connection broke or was refused: perhaps there were too many of them.
    pub(super) fn back_off(&mut self) {
        self.settle(self.goal / 2);
    }

    /// Takes notice that no further connection could be had.
    pub(super) fn found_no_room(&mut self) {
        if let Stage::Settling { before } = self.stage {
            self.goal = before.goal;
            self.stage = Stage::Open;
        }
    }

    /// Judges what happened since the last time, if that is long enough ago. `arrived` is how many bytes came over all
    /// connections, `total` how many there are, `begun` whether all connections have brought something.
    pub(super) fn judge(&mut self, arrived: u64, total: u64, begun: bool) {
        let elapsed = self.since.elapsed();
        let due = match self.stage {
            Stage::Open | Stage::Settled { .. } => WINDOW,
            Stage::Settling { .. } if begun => Duration::ZERO,
            Stage::Settling { .. } => SETTLING,
            Stage::Trying { .. } => TRIAL,
        };
        // Before the first byte nothing is known.
        if self.max == 1 || elapsed < due || arrived == 0 {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let (rate, left) = (
            arrived.saturating_sub(self.seen) as f64 / elapsed.as_secs_f64(),
            total.saturating_sub(arrived) as f64,
        );
        let starved = self.waited * 2 > elapsed;
        let sated = self.waited * 10 < elapsed;
        let worthwhile = left > rate * WORTHWHILE.as_secs_f64();
        (self.seen, self.since, self.waited) = (arrived, Instant::now(), Duration::ZERO);
        match self.stage {
            Stage::Settling { before } => self.stage = Stage::Trying { before },
            Stage::Trying { before } if starved && rate < before.rate * 1.1 => {
                self.settle(before.goal);
                self.rest *= 2;
            }
            Stage::Open | Stage::Trying { .. } if starved && worthwhile && self.goal < self.max => {
                let before = Before {
                    goal: self.goal,
                    rate,
                };
                self.goal = (self.goal * STEP).min(self.max);
                self.stage = Stage::Settling { before };
            }
            Stage::Trying { .. } => self.stage = Stage::Open,
            // Others may have a use for what is not needed here.
            Stage::Open | Stage::Settled { .. } if sated => self.goal = (self.goal - 1).max(1),
            Stage::Settled { since } if since.elapsed() > self.rest => self.stage = Stage::Open,
            Stage::Open | Stage::Settled { .. } => {}
        }
    }

    fn settle(&mut self, goal: usize) {
        self.goal = goal.max(1);
        self.stage = Stage::Settled {
            since: Instant::now(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::{Pilot, WINDOW};
    use std::time::Duration;
    use tokio::time::advance;

    const MB: u64 = 1_000_000;

    /// Lets time pass in which somebody waits for all bytes; `rate` says how many come in a second over how many
    /// connections. Returns the numbers of connections on the way.
    async fn fly(pilot: &mut Pilot, time: Duration, rate: impl Fn(usize) -> u64) -> Vec<usize> {
        let mut goals = vec![pilot.goal()];
        let mut arrived = pilot.seen;
        let mut flown = Duration::ZERO;
        while flown < time {
            advance(WINDOW).await;
            flown += WINDOW;
            pilot.waited(WINDOW);
            arrived += rate(pilot.goal()) / 20;
            pilot.judge(arrived, 100_000 * MB, true);
            if goals.last() != Some(&pilot.goal()) {
                goals.push(pilot.goal());
            }
        }
        goals
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_per_connection_leads_to_the_most_connections() {
        let mut pilot = Pilot::new(8);
        let goals = fly(&mut pilot, Duration::from_secs(1), |n| n as u64 * 30 * MB).await;
        assert_eq!(goals, [1, 4, 8]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_of_all_together_leads_back_to_one() {
        let mut pilot = Pilot::new(8);
        let goals = fly(&mut pilot, Duration::from_secs(4), |_| 30 * MB).await;
        assert_eq!(goals, [1, 4, 1]);
        let later = fly(&mut pilot, Duration::from_secs(60), |_| 30 * MB).await;
        // After 10, 20 and 40 s.
        assert!(later.len() <= 7, "{later:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_wait_needs_no_further_connection() {
        let mut pilot = Pilot::new(8);
        for n in 1..40 {
            advance(WINDOW).await;
            pilot.judge(n * MB, 1000 * MB, true);
            assert_eq!(pilot.goal(), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_needed_any_more_is_given_back() {
        let mut pilot = Pilot::new(8);
        fly(&mut pilot, Duration::from_secs(1), |n| n as u64 * 30 * MB).await;
        let arrived = pilot.seen;
        for n in 1..40 {
            advance(WINDOW).await;
            pilot.judge(arrived + n * MB, 100_000 * MB, true);
        }
        assert_eq!(pilot.goal(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_over_soon_is_left_alone() {
        let mut pilot = Pilot::new(8);
        advance(WINDOW).await;
        pilot.waited(WINDOW);
        pilot.judge(10 * MB, 20 * MB, true);
        assert_eq!(pilot.goal(), 1);
    }
}
