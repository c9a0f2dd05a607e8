//! Trying again: when, how often, and the one place that decides it.

use crate::{
    error::{Error, Result, Retry},
    http::{dns::ResolveError, transport},
    observe::{Event, Observer},
};
use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// How often and how soon to try again.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// Attempts in a row that bring nothing new, the first included.
    pub attempts: u32,
    /// The longest first pause. It doubles with every retry, but no pause is longer than the failures have lasted: what
    /// is away for three seconds costs less than six.
    pub base: Duration,
    /// The longest pause of all.
    pub max: Duration,
    /// The longest pause a server may ask for by `Retry-After`.
    pub retry_after_max: Duration,
    /// The time for all attempts together.
    pub total: Option<Duration>,
}

impl Default for RetryPolicy {
    /// A server that is away for good is given up after a minute and a half, on average.
    fn default() -> Self {
        Self {
            attempts: 14,
            base: Duration::from_secs(1),
            max: Duration::from_secs(60),
            retry_after_max: Duration::from_secs(120),
            total: None,
        }
    }
}

impl RetryPolicy {
    /// Returns the pause before retry number `retry` (from 1) after `lasted` of failures: full jitter below an
    /// exponential ceiling, but never less than the server asked for. `jitter` is between 0 and 1.
    fn pause(&self, retry: u32, lasted: Duration, cause: &Error, jitter: f64) -> Duration {
        let max = match transport::find::<ResolveError>(cause) {
            // A resolver that is down costs nobody anything when it is asked.
            Some(_) => self.max.min(self.base.saturating_mul(5)),
            None => self.max,
        };
        let ceiling = self
            .base
            .saturating_mul(2_u32.saturating_pow(retry - 1))
            .min(lasted.max(self.base))
            .min(max);
        let asked = cause.asked_wait().unwrap_or_default();
        let asked = asked.min(self.retry_after_max);
        ceiling.mul_f64(jitter).max(asked)
    }
}

/// The budget of one fetch, out of which it starts over as well as resumes.
pub struct Attempts<'a> {
    policy: &'a RetryPolicy,
    observer: &'a dyn Observer,
    start: Instant,
    spent: Mutex<Spent>,
    distrust_parts: AtomicBool,
}

#[derive(Default)]
struct Spent {
    /// Failures in all.
    failures: u32,
    /// Failures since something new arrived.
    in_a_row: u32,
    /// When the first of these was.
    since: Option<Instant>,
    /// Attempts that ended, so that the next had to start from nothing.
    lost: u32,
    /// Failures that [`Retry::Once`] is meant for: refusals of a server, and wrong content.
    refusals: u32,
    doubts: u32,
}

impl<'a> Attempts<'a> {
    /// Begins to count. `observer` hears of every retry.
    pub fn new(policy: &'a RetryPolicy, observer: &'a dyn Observer) -> Self {
        Self {
            policy,
            observer,
            start: Instant::now(),
            spent: Mutex::default(),
            distrust_parts: AtomicBool::new(false),
        }
    }

    /// Runs `attempt` until it succeeds, fails for good, or the budget is used up. Every attempt starts from nothing.
    ///
    /// # Errors
    /// The attempt's own error if it was the only one; else [`Error::GaveUp`] around the last.
    pub async fn run<T, F: Future<Output = Result<T>>>(
        &self,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T> {
        loop {
            match self.in_time(attempt()).await {
                Ok(done) => return Ok(done),
                Err(cause) => {
                    self.spent().lost += 1;
                    self.again(cause).await?;
                }
            }
        }
    }

    /// Takes notice that the failures so far did not keep something new from arriving.
    pub(crate) fn progress(&self) {
        let mut spent = self.spent();
        (spent.in_a_row, spent.since) = (0, None);
    }

    /// Whether to ask for parts of the same content over several connections.
    pub(super) fn trust_parts(&self) -> bool {
        !self.distrust_parts.load(Ordering::Relaxed)
    }

    /// Takes notice that parts did not fit together.
    pub(super) fn distrust_parts(&self) {
        self.distrust_parts.store(true, Ordering::Relaxed);
    }

    /// Returns who watches.
    pub(super) fn observer(&self) -> &'a dyn Observer {
        self.observer
    }

    /// Pauses before another attempt, if one can help and is left.
    ///
    /// # Errors
    /// What to end with: `cause` after the only attempt, else [`Error::GaveUp`] around it.
    pub(crate) async fn again(&self, cause: Error) -> Result<()> {
        let (failures, retry, lasted, last) = {
            let mut spent = self.spent();
            let lasted = spent.since.get_or_insert_with(Instant::now).elapsed();
            spent.failures += 1;
            spent.in_a_row += 1;
            let again = match cause.retry() {
                Retry::Soon => true,
                Retry::Once => {
                    let count = match cause {
                        Error::Status { .. } => &mut spent.refusals,
                        _ => &mut spent.doubts,
                    };
                    *count += 1;
                    *count < 2
                }
                Retry::Never => false,
            };
            let last = !again || spent.in_a_row.max(spent.lost) >= self.policy.attempts;
            (spent.failures, spent.in_a_row, lasted, last)
        };
        let wait = self.policy.pause(retry, lasted, &cause, fastrand::f64());
        let time_left = self
            .policy
            .total
            .is_none_or(|total| self.start.elapsed() + wait < total);
        if last || !time_left {
            return Err(match (failures, cause) {
                (1, cause) | (_, cause @ (Error::GaveUp { .. } | Error::Cancelled)) => cause,
                (_, cause) => Error::GaveUp {
                    attempts: failures,
                    elapsed: self.start.elapsed(),
                    source: Box::new(cause),
                },
            });
        }
        let retries = match cause.retry() {
            Retry::Once => retry,
            Retry::Soon | Retry::Never => self.policy.attempts - 1,
        };
        self.observer.on_event(&Event::Retrying {
            cause: &cause,
            wait,
            retry,
            retries,
        });
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Runs one attempt for as long as there is time for all of them.
    async fn in_time<T>(&self, attempt: impl Future<Output = Result<T>>) -> Result<T> {
        match self.policy.total {
            None => attempt.await,
            Some(total) => tokio::time::timeout_at(self.start + total, attempt)
                .await
                .unwrap_or(Err(Error::OutOfTime { total })),
        }
    }

    fn spent(&self) -> MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{Attempts, RetryPolicy};
    use crate::{error::Error, safe_url::SafeUrl};
    use std::time::Duration;
    use tokio::time::Instant;
    use url::Url;

    fn url() -> SafeUrl {
        SafeUrl::from(&Url::parse("http://h/x").unwrap())
    }

    fn status(code: u16, retry_after: Option<Duration>) -> Error {
        Error::Status {
            url: url(),
            status: code.to_string(),
            code,
            answer: None,
            retry_after,
            handed_out: false,
        }
    }

    async fn attempts_until_failure(
        policy: &RetryPolicy,
        fail: impl Fn(u32) -> Error,
    ) -> (u32, Duration, Error) {
        let start = Instant::now();
        let mut attempts = 0;
        let result: Result<(), Error> = Attempts::new(policy, &())
            .run(|| {
                attempts += 1;
                let err = fail(attempts);
                async move { Err(err) }
            })
            .await;
        (attempts, start.elapsed(), result.unwrap_err())
    }

    #[tokio::test(start_paused = true)]
    async fn passing_causes_are_tried_until_attempts_run_out() {
        let policy = RetryPolicy {
            attempts: 4,
            ..RetryPolicy::default()
        };
        let (attempts, elapsed, err) = attempts_until_failure(&policy, |_| status(503, None)).await;
        assert_eq!(attempts, 4);
        assert!(elapsed <= Duration::from_secs(1 + 1 + 2), "{elapsed:?}");
        assert!(matches!(err, Error::GaveUp { attempts: 4, .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn lasting_causes_are_not_tried_again() {
        let (attempts, elapsed, err) =
            attempts_until_failure(&RetryPolicy::default(), |_| status(404, None)).await;
        assert_eq!((attempts, elapsed), (1, Duration::ZERO));
        assert!(matches!(err, Error::Status { code: 404, .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_size_is_tried_once_more_whatever_came_between() {
        let wrong = || Error::Size {
            url: url(),
            expected: 1,
            actual: 2,
        };
        let (attempts, ..) = attempts_until_failure(&RetryPolicy::default(), |_| wrong()).await;
        assert_eq!(attempts, 2);
        let mixed = |n| if n == 2 { status(503, None) } else { wrong() };
        let (attempts, ..) = attempts_until_failure(&RetryPolicy::default(), mixed).await;
        assert_eq!(attempts, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_arrives_renews_the_budget() {
        let policy = RetryPolicy {
            attempts: 3,
            ..RetryPolicy::default()
        };
        let budget = Attempts::new(&policy, &());
        for _ in 0..20 {
            budget.again(status(503, None)).await.unwrap();
            budget.again(status(503, None)).await.unwrap();
            budget.progress();
        }
        budget.again(status(503, None)).await.unwrap();
        budget.again(status(503, None)).await.unwrap();
        let err = budget.again(status(503, None)).await.unwrap_err();
        assert!(matches!(err, Error::GaveUp { attempts: 43, .. }), "{err}");
    }

    #[tokio::test(start_paused = true)]
    async fn three_seconds_of_failure_cost_less_than_six() {
        for _ in 0..200 {
            let start = Instant::now();
            let attempt = || async move {
                if start.elapsed() < Duration::from_secs(3) {
                    Err(status(503, None))
                } else {
                    Ok(())
                }
            };
            Attempts::new(&RetryPolicy::default(), &())
                .run(attempt)
                .await
                .unwrap();
            assert!(start.elapsed() < Duration::from_secs(6));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_s_wish_is_obeyed_up_to_a_limit() {
        let policy = RetryPolicy {
            attempts: 2,
            retry_after_max: Duration::from_secs(30),
            ..RetryPolicy::default()
        };
        for (asked, least) in [(7, 7), (3600, 30)] {
            let asked = Some(Duration::from_secs(asked));
            let (_, elapsed, _) = attempts_until_failure(&policy, |_| status(429, asked)).await;
            assert_eq!(elapsed.as_secs(), least);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_total_time_is_a_limit_too() {
        let total = Some(Duration::from_secs(5));
        let policy = RetryPolicy {
            attempts: 1000,
            total,
            ..RetryPolicy::default()
        };
        let (_, elapsed, _) = attempts_until_failure(&policy, |_| status(500, None)).await;
        assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
    }
}
