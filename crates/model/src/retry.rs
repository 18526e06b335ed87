//! When to try again, and when not.

use std::{future::Future, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use rand::RngExt;

use crate::Error;

/// What an error says about another attempt.
pub trait Retryable: Sized {
    /// Whether the same may succeed later.
    fn retryable(&self) -> bool;

    /// The delay that the error itself asks for; `None` leaves it to the policy.
    fn retry_delay(&self) -> Option<Duration>;

    /// The same, which came although it was tried `again` so often.
    #[must_use]
    fn after(self, _again: u32) -> Self {
        self
    }
}

impl Retryable for Error {
    fn retryable(&self) -> bool {
        self.retryable()
    }

    fn retry_delay(&self) -> Option<Duration> {
        self.retry_delay()
    }

    fn after(mut self, again: u32) -> Self {
        if let Self::ConnectionLost { attempts, .. } = &mut self {
            *attempts = again;
        }
        self
    }
}

/// Exponential backoff with full jitter, bounded in attempts, delay and total time.
///
/// Only [retryable](Retryable::retryable) errors are retried; a delay that the error carries
/// (a peer's `Retry-After`) wins over the computed one. Dropping the future cancels it. The caller
/// must only retry what is idempotent or carries an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// Calls in total, the first one included.
    pub attempts: usize,
    pub first_delay: Duration,
    pub factor: f32,
    pub max_delay: Duration,
    /// No new attempt starts when its delay would end after this much time.
    pub total: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 3,
            first_delay: Duration::from_millis(100),
            factor: 2.0,
            max_delay: Duration::from_secs(30),
            total: Duration::from_secs(300),
        }
    }
}

impl RetryPolicy {
    /// This policy for a request that may be repeated, one attempt for any other.
    ///
    /// A request may be repeated when it is idempotent or carries an idempotency key.
    #[must_use]
    pub fn for_request(self, repeatable: bool) -> Self {
        if repeatable { self } else { Self { attempts: 1, ..self } }
    }

    /// The upper bounds of the delays between attempts, before jitter.
    pub fn delays(&self) -> impl Iterator<Item = Duration> {
        ExponentialBuilder::default()
            .with_min_delay(self.first_delay.min(self.max_delay))
            .with_factor(self.factor)
            .with_max_delay(self.max_delay)
            .with_max_times(self.attempts.saturating_sub(1))
            .build()
    }

    /// Calls `operation` until it succeeds, fails for good, or the policy is spent.
    ///
    /// `sleep` waits on the caller's runtime.
    ///
    /// # Errors
    /// The last error of `operation`, which knows [how often](Retryable::after) it was tried again.
    pub async fn run<T, E, Op, Fut, Sleep, Nap>(
        &self,
        sleep: Sleep,
        mut operation: Op,
    ) -> Result<T, E>
    where
        E: Retryable,
        Op: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        Sleep: Fn(Duration) -> Nap,
        Nap: Future<Output = ()>,
    {
        let started = std::time::Instant::now();
        let mut waited = Duration::ZERO;
        let mut delays = self.delays();
        let mut again = 0u32;
        loop {
            let error = match operation().await {
                Ok(value) => return Ok(value),
                Err(error) => error.after(again),
            };
            let Some(bound) = delays.next().filter(|_| error.retryable()) else {
                return Err(error);
            };
            let delay = error.retry_delay().unwrap_or_else(|| full_jitter(bound));
            let spent = started.elapsed().max(waited);
            if spent.saturating_add(delay) > self.total {
                return Err(error);
            }
            sleep(delay).await;
            waited += delay;
            again = again.saturating_add(1);
        }
    }
}

fn full_jitter(bound: Duration) -> Duration {
    bound.mul_f64(rand::rng().random_range(0.0..=1.0))
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use proptest::prelude::*;

    use super::*;

    /// Runs `policy` on an operation that fails with what `fail` makes of the number of the call, and
    /// returns the number of calls, the delays between them, and whether it succeeded.
    async fn calls(
        policy: RetryPolicy,
        fail: impl Fn(usize) -> Option<Error>,
    ) -> (usize, Vec<Duration>, bool) {
        let count = Cell::new(0);
        let naps = RefCell::new(Vec::new());
        let nap = |delay| {
            naps.borrow_mut().push(delay);
            std::future::ready(())
        };
        let result = policy
            .run(nap, || {
                count.set(count.get() + 1);
                std::future::ready(fail(count.get()).map_or(Ok(()), Err))
            })
            .await;
        (count.get(), naps.into_inner(), result.is_ok())
    }

    fn retryable() -> Error {
        Error::Unavailable { reason: "busy".into(), retry_after: None, source: None }
    }

    fn asks_for(seconds: u64) -> Error {
        Error::unavailable("busy", Duration::from_secs(seconds))
    }

    #[test]
    fn the_default_is_the_documented_policy() {
        let policy = RetryPolicy::default();
        let bounds: Vec<_> = policy.delays().map(|bound| bound.as_millis()).collect();
        assert_eq!(bounds, [100, 200]);
        assert_eq!((policy.attempts, policy.total), (3, Duration::from_secs(300)));
        let long = RetryPolicy { attempts: 20, ..policy };
        assert_eq!(long.delays().last(), Some(Duration::from_secs(30)));
    }

    #[tokio::test]
    async fn a_retryable_error_is_tried_three_times() {
        let (count, naps, ok) = calls(RetryPolicy::default(), |_| Some(retryable())).await;
        assert_eq!((count, naps.len(), ok), (3, 2, false));
        assert!(naps[0].as_millis() <= 100 && naps[1].as_millis() <= 200, "{naps:?}");
    }

    #[tokio::test]
    async fn a_success_ends_it() {
        let fail_once = |call| (call == 1).then(retryable);
        let (count, _, ok) = calls(RetryPolicy::default(), fail_once).await;
        assert_eq!((count, ok), (2, true));
    }

    #[tokio::test]
    async fn an_error_for_good_is_not_repeated() {
        let refused = |_| Some(Error::Conflict("no".into()));
        let (count, naps, _) = calls(RetryPolicy::default(), refused).await;
        assert_eq!((count, naps.len()), (1, 0));
    }

    #[tokio::test]
    async fn what_may_not_be_repeated_is_tried_once() {
        let once = RetryPolicy::default().for_request(false);
        assert_eq!(calls(once, |_| Some(retryable())).await.0, 1);
        let thrice = RetryPolicy::default().for_request(true);
        assert_eq!(calls(thrice, |_| Some(retryable())).await.0, 3);
    }

    #[tokio::test]
    async fn the_delay_that_a_peer_asks_for_wins() {
        let (_, naps, _) = calls(RetryPolicy::default(), |_| Some(asks_for(7))).await;
        assert_eq!(naps, [Duration::from_secs(7); 2]);
        let timeout = |_| Some(Error::timed_out("read", "x", Duration::from_millis(1)));
        assert_eq!(calls(RetryPolicy::default(), timeout).await.1, [Duration::from_secs(2); 2]);
    }

    #[tokio::test]
    async fn a_lost_connection_knows_its_attempts_and_waits_twice_as_long_after_each() {
        let lost = |_| Some(Error::lost("reset", "by the peer"));
        let patient = RetryPolicy { attempts: 9, ..RetryPolicy::default() };
        let (count, naps, _) = calls(patient, lost).await;
        let waited: Vec<_> = naps.iter().map(Duration::as_secs).collect();
        assert_eq!((count, &waited[..]), (9, &[1, 2, 4, 8, 16, 32, 60, 60][..]));
        for (attempts, words) in [
            (1, "after 0 reconnect attempts"),
            (2, "after 1 reconnect attempt:"),
            (3, "after 2 reconnect attempts"),
        ] {
            let policy = RetryPolicy { attempts, ..RetryPolicy::default() };
            let nap = |_| std::future::ready(());
            let failed = policy.run(nap, || std::future::ready(Err::<(), _>(lost(0).unwrap())));
            let told = failed.await.unwrap_err().to_string();
            assert!(told.contains(words), "{told}");
        }
    }

    #[tokio::test]
    async fn the_total_time_bounds_the_attempts() {
        let patient = RetryPolicy { attempts: 100, ..RetryPolicy::default() };
        let (count, naps, _) = calls(patient, |_| Some(asks_for(100))).await;
        assert_eq!((count, naps.len()), (4, 3));
        let (count, ..) = calls(patient, |_| Some(asks_for(u64::MAX))).await;
        assert_eq!(count, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn dropping_the_future_cancels_it() {
        let count = Cell::new(0);
        let policy = RetryPolicy { attempts: 50, ..RetryPolicy::default() };
        let endless = policy.run(tokio::time::sleep, || {
            count.set(count.get() + 1);
            std::future::ready(Err::<(), _>(asks_for(5)))
        });
        let bounded = tokio::time::timeout(Duration::from_secs(12), endless).await;
        assert!(bounded.is_err());
        assert_eq!(count.get(), 3);
    }

    proptest! {
        #[test]
        fn bounds_grow_up_to_the_limit_and_are_as_many_as_retries(
            attempts in 0usize..40,
            first_ms in 1u64..5_000,
            factor in 1.0f32..8.0,
            max_ms in 1u64..60_000,
        ) {
            let policy = RetryPolicy {
                attempts,
                first_delay: Duration::from_millis(first_ms),
                factor,
                max_delay: Duration::from_millis(max_ms),
                total: Duration::from_secs(300),
            };
            let bounds: Vec<_> = policy.delays().collect();
            prop_assert_eq!(bounds.len(), attempts.saturating_sub(1));
            prop_assert!(bounds.is_sorted());
            prop_assert!(bounds.iter().all(|bound| *bound <= policy.max_delay));
        }

        /// Whatever fails and however often: no more calls than the policy has, no delay above its bound or
        /// beside the one that was asked for, no more time than in all, and none after an error for good.
        #[test]
        fn every_delay_is_within_the_policy(
            attempts in 1usize..8,
            total_s in 0u64..600,
            asked in proptest::collection::vec(proptest::option::of(0u64..400), 8),
            for_good in 0usize..10,
        ) {
            let total = Duration::from_secs(total_s);
            let policy = RetryPolicy { attempts, total, ..RetryPolicy::default() };
            let error = |call: usize| match asked.get(call - 1).copied().flatten() {
                _ if call == for_good => Error::Conflict("no".into()),
                Some(seconds) => asks_for(seconds),
                None => retryable(),
            };
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (count, naps, ok) = runtime.block_on(calls(policy, |call| Some(error(call))));
            prop_assert!(!ok && count <= attempts && naps.len() == count - 1);
            prop_assert!(for_good == 0 || count <= for_good);
            let bounds: Vec<_> = policy.delays().collect();
            for (index, nap) in naps.iter().enumerate() {
                match asked.get(index).copied().flatten() {
                    Some(seconds) => prop_assert_eq!(*nap, Duration::from_secs(seconds)),
                    None => prop_assert!(*nap <= bounds[index]),
                }
            }
            prop_assert!(naps.iter().sum::<Duration>() <= total);
        }

        #[test]
        fn jitter_stays_below_its_bound(ms in 0u64..100_000) {
            let bound = Duration::from_millis(ms);
            prop_assert!(full_jitter(bound) <= bound);
        }
    }
}
