//! How often the hosts of one sandbox were asked.

use std::{collections::HashMap, time::Instant};

use parking_lot::Mutex;
use soulbox_model::network::{Pattern, RequestRate};

/// One bucket for each pattern that has a rate; as many as the policy has.
#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<HashMap<Pattern, Bucket>>);

#[derive(Debug)]
struct Bucket {
    left: f64,
    since: Instant,
}

impl Rates {
    /// # Errors
    /// After how many seconds there is room for another one.
    pub(crate) fn take(&self, rate: &RequestRate) -> Result<(), u64> {
        let (most, now) = (f64::from(rate.per_minute), Instant::now());
        let mut buckets = self.0.lock();
        let bucket = buckets.entry(rate.host.clone()).or_insert(Bucket { left: most, since: now });
        let gained = (now - bucket.since).as_secs_f64() * most / 60.0;
        bucket.left = (bucket.left + gained).min(most);
        bucket.since = now;
        if bucket.left >= 1.0 {
            bucket.left -= 1.0;
            return Ok(());
        }
        Err(((1.0 - bucket.left) * 60.0 / most).ceil() as u64)
    }

    /// Of rules that are no more, nothing stays.
    pub(crate) fn keep(&self, rates: &[RequestRate]) {
        self.0.lock().retain(|host, _| rates.iter().any(|rate| rate.host == *host));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_holds_as_many_as_it_says() {
        let rates = Rates::default();
        let two = RequestRate::new("api.example.com".parse().unwrap(), 2).unwrap();
        assert_eq!((rates.take(&two), rates.take(&two)), (Ok(()), Ok(())));
        assert!(matches!(rates.take(&two), Err(29..=30)));
        let other = RequestRate::new("*.example.com".parse().unwrap(), 1).unwrap();
        assert_eq!(rates.take(&other), Ok(()));
        rates.keep(&[other]);
        assert_eq!(rates.0.lock().len(), 1);
    }
}
