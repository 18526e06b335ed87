//! When to try again, and when not.

use std::{future::Future, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use rand::RngExt;

use crate::Error;

/// Exponential backoff with full jitter, bounded in attempts, delay and total time.
///
/// Only [retryable](Error::retryable) errors are retried; a delay that the error carries
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
    /// The upper bounds of the delays between attempts, before jitter.
    pub fn delays(&self) -> impl Iterator<Item = Duration> {
        ExponentialBuilder::default()
            .with_min_delay(self.first_delay)
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
    /// The last error of `operation`.
    pub async fn run<T, Op, Fut, Sleep, Nap>(&self, sleep: Sleep, mut operation: Op) -> Result<T, Error>
    where
        Op: FnMut() -> Fut,
        Fut: Future<Output = Result<T, Error>>,
        Sleep: Fn(Duration) -> Nap,
        Nap: Future<Output = ()>,
    {
        let started = std::time::Instant::now();
        let mut delays = self.delays();
        loop {
            let error = match operation().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let Some(bound) = delays.next().filter(|_| error.retryable()) else { return Err(error) };
            let delay = error.retry_delay().unwrap_or_else(|| full_jitter(bound));
            if started.elapsed() + delay > self.total {
                return Err(error);
            }
            sleep(delay).await;
        }
    }
}

fn full_jitter(bound: Duration) -> Duration {
    bound.mul_f64(rand::rng().random_range(0.0..=1.0))
}
