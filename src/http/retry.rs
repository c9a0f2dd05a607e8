//! Trying again: when, how often, and the one loop that does it.

use crate::{
    error::{Error, Result, Retry},
    observe::{Event, Observer},
};
use std::time::Duration;
use tokio::time::Instant;

/// How often and how soon to try again.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// Attempts in all, the first included.
    pub attempts: u32,
    /// The longest first pause; it doubles with every retry.
    pub base: Duration,
    /// The longest pause of all.
    pub max: Duration,
    /// The longest pause a server may ask for by `Retry-After`.
    pub retry_after_max: Duration,
    /// The time for all attempts together.
    pub total: Option<Duration>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            base: Duration::from_secs(1),
            max: Duration::from_secs(60),
            retry_after_max: Duration::from_secs(120),
            total: None,
        }
    }
}

impl RetryPolicy {
    /// Returns the pause before retry number `retry` (from 1): full jitter below an exponential ceiling, but never
    /// less than the server asked for. `jitter` is between 0 and 1.
    fn pause(&self, retry: u32, cause: &Error, jitter: f64) -> Duration {
        let ceiling = self
            .base
            .saturating_mul(2_u32.saturating_pow(retry - 1))
            .min(self.max);
        let asked = match cause {
            Error::Status {
                retry_after: Some(asked),
                ..
            } => (*asked).min(self.retry_after_max),
            _ => Duration::ZERO,
        };
        ceiling.mul_f64(jitter).max(asked)
    }
}

/// Runs `attempt` until it succeeds, fails for good, or the budget is used up. Every attempt starts from nothing.
///
/// # Errors
/// The attempt's own error if it was the only one; else [`Error::GaveUp`] around the last.
pub async fn retry<T, F: Future<Output = Result<T>>>(
    policy: &RetryPolicy,
    observer: &dyn Observer,
    mut attempt: impl FnMut() -> F,
) -> Result<T> {
    let start = Instant::now();
    let mut integrity_failures = 0;
    for retry in 1.. {
        let cause = match in_time(policy, start, attempt()).await {
            Ok(done) => return Ok(done),
            Err(cause) => cause,
        };
        integrity_failures += u32::from(cause.retry() == Retry::Once);
        let wait = policy.pause(retry, &cause, fastrand::f64());
        let again = match cause.retry() {
            Retry::Soon => true,
            Retry::Once => integrity_failures < 2,
            Retry::Never => false,
        };
        let time_left = policy
            .total
            .is_none_or(|total| start.elapsed() + wait < total);
        if !again || retry >= policy.attempts || !time_left {
            return Err(if retry == 1 {
                cause
            } else {
                Error::GaveUp {
                    attempts: retry,
                    elapsed: start.elapsed(),
                    source: Box::new(cause),
                }
            });
        }
        let retries = if cause.retry() == Retry::Once {
            retry
        } else {
            policy.attempts - 1
        };
        observer.on_event(&Event::Retrying {
            cause: &cause,
            wait,
            retry,
            retries,
        });
        tokio::time::sleep(wait).await;
    }
    Err(Error::Cancelled)
}

/// Runs one attempt for as long as there is time for all of them.
async fn in_time<T>(
    policy: &RetryPolicy,
    start: Instant,
    attempt: impl Future<Output = Result<T>>,
) -> Result<T> {
    match policy.total {
        None => attempt.await,
        Some(total) => tokio::time::timeout_at(start + total, attempt)
            .await
            .unwrap_or(Err(Error::OutOfTime { total })),
    }
}

#[cfg(test)]
mod tests {
    use super::{RetryPolicy, retry};
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
        }
    }

    async fn attempts_until_failure(
        policy: &RetryPolicy,
        fail: impl Fn(u32) -> Error,
    ) -> (u32, Duration, Error) {
        let start = Instant::now();
        let mut attempts = 0;
        let result: Result<(), Error> = retry(policy, &(), || {
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
        assert!(elapsed <= Duration::from_secs(1 + 2 + 4), "{elapsed:?}");
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
