//! Leaves an upstream alone that keeps failing.

use std::{
    collections::HashMap,
    future::Future,
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::{Error, Retryable};

/// When to leave an upstream alone, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Failures in a row after which an upstream is left alone; at least 1.
    pub failures: u32,
    /// How long the first time; doubled each time that the try after it fails, too.
    pub rest: Duration,
    pub longest_rest: Duration,
    /// Upstreams that are remembered. One beyond them takes the place of the one that failed least lately.
    pub upstreams: usize,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            failures: 5,
            rest: Duration::from_secs(1),
            longest_rest: Duration::from_secs(60),
            upstreams: 1024,
        }
    }
}

/// A circuit breaker for each upstream, by name.
///
/// What counts is a [retryable](Retryable::retryable) error: one that says that the upstream is not well, not
/// that the request was wrong. After as many of them in a row as the policy says, calls fail at once with
/// [`Error::Unavailable`], which carries how long it will be so; then one call at a time is let through,
/// until one succeeds.
#[derive(Debug)]
pub struct Breakers {
    policy: BreakerPolicy,
    /// Only upstreams whose last call failed.
    failing: Mutex<HashMap<String, Failing>>,
}

#[derive(Debug, Clone, Copy)]
struct Failing {
    in_a_row: u32,
    since: Instant,
    /// Calls fail at once until then.
    until: Option<Instant>,
    rest: Duration,
    /// A call is on its way that will tell.
    trying: bool,
}

impl Breakers {
    pub fn new(policy: BreakerPolicy) -> Self {
        Self { policy, failing: Mutex::default() }
    }

    /// Calls `operation`, unless `upstream` is left alone.
    ///
    /// # Errors
    /// Those of `operation`, and [`Error::Unavailable`] in its place.
    pub async fn run<T, E, Op, Fut>(&self, upstream: &str, operation: Op) -> Result<T, E>
    where
        E: Retryable + From<Error>,
        Op: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.admit(upstream, Instant::now())?;
        // Dropped before its end, a call tells nothing and makes way for the next.
        let mut call = Call { breakers: self, upstream, over: false };
        let result = operation().await;
        call.over = true;
        match &result {
            Err(error) if error.retryable() => self.failed(upstream, Instant::now()),
            _ => self.succeeded(upstream),
        }
        result
    }

    fn admit(&self, upstream: &str, now: Instant) -> Result<(), Error> {
        let mut failing = self.failing();
        let Some(state) = failing.get_mut(upstream) else { return Ok(()) };
        let Some(until) = state.until else { return Ok(()) };
        if now < until || state.trying {
            let left = until.saturating_duration_since(now).max(Duration::from_millis(100));
            let reason = format!(
                "{upstream} failed {} times in a row and is left alone for a while",
                state.in_a_row
            );
            return Err(Error::unavailable(reason, left));
        }
        state.trying = true;
        Ok(())
    }

    fn failed(&self, upstream: &str, now: Instant) {
        let mut failing = self.failing();
        if !failing.contains_key(upstream) && failing.len() >= self.policy.upstreams.max(1) {
            let oldest = failing.iter().min_by_key(|(_, state)| state.since);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                failing.remove(&oldest);
            }
        }
        let fresh =
            Failing { in_a_row: 0, since: now, until: None, rest: self.policy.rest, trying: false };
        let state = failing.entry(upstream.to_owned()).or_insert(fresh);
        state.in_a_row = state.in_a_row.saturating_add(1);
        state.since = now;
        let tried = std::mem::take(&mut state.trying);
        if tried {
            state.rest = state.rest.saturating_mul(2).min(self.policy.longest_rest);
        }
        // Calls that began before the first rest do not make it longer.
        if tried || (state.until.is_none() && state.in_a_row >= self.policy.failures.max(1)) {
            state.until = now.checked_add(state.rest);
        }
    }

    fn succeeded(&self, upstream: &str) {
        self.failing().remove(upstream);
    }

    fn given_up(&self, upstream: &str) {
        if let Some(state) = self.failing().get_mut(upstream) {
            state.trying = false;
        }
    }

    fn failing(&self) -> std::sync::MutexGuard<'_, HashMap<String, Failing>> {
        // Nothing that is done under the lock panics half way.
        self.failing.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A call that has not come back.
struct Call<'a> {
    breakers: &'a Breakers,
    upstream: &'a str,
    over: bool,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.breakers.given_up(self.upstream);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::ready};

    use proptest::prelude::*;

    use super::*;

    fn lost() -> Error {
        Error::lost("reset", "by peer")
    }

    const REST: Duration = Duration::from_millis(500);

    fn brief(failures: u32) -> Breakers {
        Breakers::new(BreakerPolicy { failures, rest: REST, longest_rest: REST * 2, upstreams: 4 })
    }

    async fn fail(breakers: &Breakers, upstream: &str) -> Error {
        breakers.run(upstream, || ready(Err::<(), _>(lost()))).await.unwrap_err()
    }

    #[tokio::test]
    async fn an_upstream_that_keeps_failing_is_left_alone_and_no_other() {
        let breakers = brief(3);
        for _ in 0..3 {
            assert_eq!(fail(&breakers, "a").await.code(), "SB-CONN-LOST");
        }
        let called = Cell::new(false);
        let refused = breakers
            .run("a", || {
                ready({
                    called.set(true);
                    Ok::<_, Error>(())
                })
            })
            .await
            .unwrap_err();
        assert!(!called.get() && refused.code() == "SB-UNAVAILABLE", "{refused}");
        assert!(refused.retry_delay() > Some(Duration::ZERO));
        assert!(breakers.run("b", || ready(Ok::<_, Error>(()))).await.is_ok());
    }

    #[tokio::test]
    async fn after_the_rest_one_call_tells() {
        let breakers = brief(1);
        fail(&breakers, "a").await;
        tokio::time::sleep(REST).await;
        let probe = breakers.run("a", || async {
            let second = breakers.run("a", || ready(Ok::<_, Error>(()))).await;
            assert!(second.is_err(), "two calls at a time");
            Ok::<_, Error>(())
        });
        assert!(probe.await.is_ok());
        assert!(breakers.run("a", || ready(Ok::<_, Error>(()))).await.is_ok());
    }

    #[tokio::test]
    async fn a_call_that_is_cancelled_makes_way() {
        let breakers = brief(1);
        fail(&breakers, "a").await;
        tokio::time::sleep(REST).await;
        let endless = breakers.run("a", std::future::pending::<Result<(), Error>>);
        assert!(tokio::time::timeout(Duration::from_millis(5), endless).await.is_err());
        assert!(breakers.run("a", || ready(Ok::<_, Error>(()))).await.is_ok());
    }

    #[tokio::test]
    async fn a_wrong_request_says_nothing_about_the_upstream() {
        let breakers = brief(1);
        for _ in 0..5 {
            let wrong = breakers.run("a", || ready(Err::<(), _>(Error::invalid("x", "y")))).await;
            assert_eq!(wrong.unwrap_err().code(), "SB-INVALID");
        }
    }

    #[tokio::test]
    async fn only_so_many_upstreams_are_remembered() {
        let breakers = brief(1);
        for n in 0..20 {
            fail(&breakers, &n.to_string()).await;
        }
        assert_eq!(breakers.failing().len(), 4);
    }

    proptest! {
        #[test]
        fn rests_grow_up_to_the_longest(rounds in 1u32..20) {
            let policy = BreakerPolicy { failures: 1, ..BreakerPolicy::default() };
            let breakers = Breakers::new(policy);
            let mut now = Instant::now();
            let mut last = Duration::ZERO;
            for _ in 0..rounds {
                prop_assert!(breakers.admit("a", now).is_ok());
                breakers.failed("a", now);
                let wait = breakers.admit("a", now).unwrap_err().retry_delay().unwrap();
                prop_assert!(wait >= last && wait <= policy.longest_rest);
                prop_assert!(breakers.admit("a", now + wait / 2).is_err());
                last = wait;
                now += wait;
            }
        }
    }
}
