//! Limits of bytes, and what was used of them.

use std::{
    fmt, io,
    net::IpAddr,
    sync::atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use soulbox_model::network::{ByteLimit, BytesUsed, Destination, Domain, Pattern};

/// As the sandbox sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Sent = 0,
    Received = 1,
}

/// Where a flow goes, by every name that it may have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    pub(crate) names: Vec<Domain>,
    pub(crate) address: Option<IpAddr>,
}

impl Place {
    fn is_in(&self, destination: &Destination) -> bool {
        match destination {
            Destination::Name(Pattern::Any) => true,
            Destination::Name(pattern) => self.names.iter().any(|name| pattern.matches(name)),
            Destination::Net(range) => {
                range.is_everything() || self.address.is_some_and(|ip| range.contains(ip))
            }
        }
    }
}

/// A limit has nothing left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedUp {
    pub destination: Destination,
    sent: bool,
}

impl fmt::Display for UsedUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.sent { "sent to" } else { "received from" };
        write!(
            f,
            "the bytes that may be {what} {} are used up (requests: bytes); raise the limit to go on",
            self.destination
        )
    }
}

impl std::error::Error for UsedUp {}

impl UsedUp {
    /// Of an error that [`Limits::pass`] made.
    pub(crate) fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

/// The limits of one sandbox. A flow counts against each one that it is in.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    any: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Another one after each change.
    generation: u64,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    limit: ByteLimit,
    used: [u64; 2],
    /// What of it was written down.
    saved: [u64; 2],
}

impl Entry {
    fn bytes(&self) -> BytesUsed {
        let [sent, received] = self.used;
        BytesUsed { destination: self.limit.destination.clone(), sent, received }
    }

    fn left(&self, way: Way) -> Option<u64> {
        let most = match way {
            Way::Sent => self.limit.sent,
            Way::Received => self.limit.received,
        };
        most.map(|most| most.saturating_sub(self.used[way as usize]))
    }
}

/// Which limits a flow is in, as of a generation.
#[derive(Debug, Default)]
pub(crate) struct Applying {
    generation: u64,
    entries: Vec<usize>,
}

impl State {
    fn refresh(&self, applying: &mut Applying, place: &Place) {
        if applying.generation != self.generation {
            let inside =
                |(at, entry): (usize, &Entry)| place.is_in(&entry.limit.destination).then_some(at);
            applying.entries = self.entries.iter().enumerate().filter_map(inside).collect();
            applying.generation = self.generation;
        }
    }

    /// The least that is left in that direction, and of which limit.
    fn left(&self, way: Way, applying: &Applying) -> Option<(u64, usize)> {
        let of = |at: &usize| Some((self.entries.get(*at)?.left(way)?, *at));
        applying.entries.iter().filter_map(of).min()
    }

    fn used_up(&self, at: usize, way: Way) -> Option<UsedUp> {
        let destination = self.entries.get(at)?.limit.destination.clone();
        Some(UsedUp { destination, sent: way == Way::Sent })
    }
}

impl Limits {
    /// What was used of limits, of those apart of which nothing was.
    pub(crate) fn used(&self) -> Vec<BytesUsed> {
        let state = self.state.lock();
        state.entries.iter().filter(|entry| entry.used != [0, 0]).map(Entry::bytes).collect()
    }

    /// What was used of limits of which more was since that was written down.
    pub(crate) fn unsaved(&self) -> Vec<BytesUsed> {
        let state = self.state.lock();
        state.entries.iter().filter(|entry| entry.used != entry.saved).map(Entry::bytes).collect()
    }

    /// These were written down.
    pub(crate) fn saved(&self, written: &[BytesUsed]) {
        let mut state = self.state.lock();
        for entry in &mut state.entries {
            let same = |used: &&BytesUsed| used.destination == entry.limit.destination;
            if let Some(used) = written.iter().find(same) {
                entry.saved = [used.sent, used.received];
            }
        }
    }

    /// Begins with limits of which something is used, as it was written down.
    pub(crate) fn resume(&self, limits: &[ByteLimit], written: &[BytesUsed]) {
        self.set(limits);
        let mut state = self.state.lock();
        for entry in &mut state.entries {
            let same = |used: &&BytesUsed| used.destination == entry.limit.destination;
            if let Some(used) = written.iter().find(same) {
                entry.used = [used.sent, used.received];
                entry.saved = entry.used;
            }
        }
    }

    /// What was used of destinations that are limited still stays used.
    pub(crate) fn set(&self, limits: &[ByteLimit]) {
        let mut state = self.state.lock();
        let entries = limits
            .iter()
            .map(|limit| {
                let same = |entry: &&Entry| entry.limit.destination == limit.destination;
                let known = state.entries.iter().find(same);
                let (used, saved) =
                    known.map(|entry| (entry.used, entry.saved)).unwrap_or_default();
                Entry { limit: limit.clone(), used, saved }
            })
            .collect();
        state.entries = entries;
        state.generation += 1;
        self.any.store(!state.entries.is_empty(), Ordering::Release);
    }

    /// Moves at most `most` bytes by `act`, which says how many it moved and must not wait. Nothing
    /// else of the sandbox moves meanwhile if there is any limit, so that none is ever exceeded.
    ///
    /// `ends` tells that `act` reads: when nothing is left it is called for one byte, which only an
    /// end saves from being too much.
    ///
    /// # Errors
    /// What `act` says; [`UsedUp`] inside of it.
    pub(crate) fn pass(
        &self,
        (way, ends): (Way, bool),
        (place, applying): (&Place, &Mutex<Applying>),
        most: usize,
        act: impl FnOnce(usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if !self.any.load(Ordering::Acquire) {
            return act(most);
        }
        let mut state = self.state.lock();
        let mut applying = applying.lock();
        state.refresh(&mut applying, place);
        let Some((left, scarcest)) = state.left(way, &applying) else {
            return act(most);
        };
        if left == 0 {
            let moved = if ends { act(1)? } else { 1 };
            let used_up = state.used_up(scarcest, way).filter(|_| moved > 0);
            return used_up.map_or(Ok(0), |used_up| Err(io::Error::other(used_up)));
        }
        let moved = act(most.min(usize::try_from(left).unwrap_or(usize::MAX)))?;
        for at in &applying.entries {
            if let Some(entry) = state.entries.get_mut(*at) {
                entry.used[way as usize] += moved as u64;
            }
        }
        Ok(moved)
    }

    /// What keeps a flow to `place` from moving anything.
    pub(crate) fn used_up(&self, place: &Place) -> Option<UsedUp> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let state = self.state.lock();
        let mut applying = Applying::default();
        state.refresh(&mut applying, place);
        [Way::Sent, Way::Received].into_iter().find_map(|way| {
            let (_, at) = state.left(way, &applying).filter(|(left, _)| *left == 0)?;
            state.used_up(at, way)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn limit(destination: &str, sent: u64) -> ByteLimit {
        ByteLimit::new(destination.parse().unwrap(), Some(sent), None).unwrap()
    }

    fn place(name: &str, address: &str) -> Place {
        Place { names: vec![name.parse().unwrap()], address: Some(address.parse().unwrap()) }
    }

    fn send(limits: &Limits, place: &Place, bytes: usize) -> Result<usize, String> {
        let way = (Way::Sent, true);
        let passed =
            limits.pass(way, (place, &Mutex::default()), bytes, |most| Ok(most.min(bytes)));
        passed.map_err(|error| UsedUp::of(&error).unwrap().destination.to_string())
    }

    #[test]
    fn a_flow_counts_against_every_limit_that_it_is_in() {
        let limits = Limits::default();
        let (api, other) = (place("api.example.com", "1.1.1.1"), place("b.org", "1.1.1.2"));
        assert_eq!(send(&limits, &api, 1 << 40), Ok(1 << 40), "without a limit");
        limits.set(&[limit("*.example.com", 10), limit("1.1.1.0/24", 15), limit("*", 100)]);
        assert_eq!(send(&limits, &api, 7), Ok(7));
        assert_eq!(send(&limits, &api, 7), Ok(3));
        assert_eq!(send(&limits, &api, 7), Err("*.example.com".to_owned()));
        assert_eq!(send(&limits, &api, 0), Ok(0), "an end is no byte");
        assert_eq!(send(&limits, &other, 7), Ok(5));
        assert_eq!(send(&limits, &other, 7), Err("1.1.1.0/24".to_owned()));
        assert_eq!(send(&limits, &place("c.org", "2.2.2.2"), 200), Ok(85));
        assert!(limits.used_up(&api).is_some());
    }

    #[test]
    fn an_update_keeps_what_was_used() {
        let (limits, api) = (Limits::default(), place("api.example.com", "1.1.1.1"));
        limits.set(&[limit("api.example.com", 10)]);
        assert_eq!(send(&limits, &api, 8), Ok(8));
        limits.set(&[limit("b.org", 1), limit("api.example.com", 12)]);
        assert_eq!(send(&limits, &api, 8), Ok(4));
        limits.set(&[limit("api.example.com", 5)]);
        assert_eq!(send(&limits, &api, 8), Err("api.example.com".to_owned()));
        limits.set(&[]);
        assert_eq!(send(&limits, &api, 8), Ok(8));
        limits.set(&[limit("api.example.com", 10)]);
        assert_eq!(
            send(&limits, &api, 18),
            Ok(10),
            "what was not limited meanwhile is counted anew"
        );
    }

    #[test]
    fn what_was_written_down_counts_after_a_restart() {
        let (limits, api) = (Limits::default(), place("api.example.com", "1.1.1.1"));
        limits.set(&[limit("api.example.com", 20), limit("b.org", 1), limit("*", 100)]);
        assert_eq!((limits.used(), limits.unsaved()), (vec![], vec![]));
        assert_eq!(send(&limits, &api, 12), Ok(12));
        let written = limits.unsaved();
        assert_eq!(written.iter().map(|used| used.sent).collect::<Vec<_>>(), [12, 12]);
        assert_eq!(send(&limits, &api, 3), Ok(3));
        limits.saved(&written);
        assert_eq!(limits.unsaved(), limits.used(), "more was used since");
        limits.saved(&limits.used());
        assert_eq!(limits.unsaved(), []);
        limits.set(&[limit("api.example.com", 30), limit("*", 100)]);
        assert_eq!(limits.unsaved(), [], "it stays written down");
        let after_a_restart = Limits::default();
        after_a_restart.resume(&[limit("api.example.com", 20), limit("*", 100)], &written);
        assert_eq!(after_a_restart.unsaved(), []);
        assert_eq!(send(&after_a_restart, &api, 9), Ok(8));
        assert_eq!(send(&after_a_restart, &place("c.org", "2.2.2.2"), 200), Ok(80));
    }

    #[test]
    fn many_at_once_do_not_exceed_it() {
        let limits = Arc::new(Limits::default());
        limits.set(&[limit("*", 1_000_003)]);
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let limits = Arc::clone(&limits);
                std::thread::spawn(move || {
                    let api = place("api.example.com", "1.1.1.1");
                    let mut sent = 0;
                    while let Ok(more) = send(&limits, &api, 4096) {
                        sent += more;
                    }
                    sent
                })
            })
            .collect();
        let sent: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(sent, 1_000_003);
    }
}
