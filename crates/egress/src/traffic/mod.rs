//! What went out of one sandbox and came back: each decision as an event, bytes as counts.
//!
//! Outlives the gate. Events are few enough to keep; who reads too slowly learns how many it missed.
//! None holds a path, a query or a header: those carry secrets.

mod limits;
mod meter;

use std::{
    collections::VecDeque,
    fmt,
    net::{IpAddr, SocketAddr},
    ops::AddAssign,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use soulbox_model::network::{ByteLimit, BytesUsed, Domain};
use tokio::sync::watch;

pub use limits::UsedUp;
pub(crate) use limits::{Limits, Place, Way};
pub(crate) use meter::{Meter, Metered};

/// Events that are kept of one sandbox; each takes some hundred bytes.
const KEPT: usize = 512;
/// Readers of one sandbox's events at a time.
pub const READERS: u64 = 16;

/// What became of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Allowed,
    Denied,
    /// It was allowed, and its destination could not be reached.
    Failed,
    /// What was allowed is over.
    Ended,
}

/// Where something goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    pub name: Option<Domain>,
    pub address: Option<IpAddr>,
    pub port: Option<u16>,
}

impl Target {
    pub(crate) fn name(name: &Domain) -> Self {
        Self { name: Some(name.clone()), ..Self::default() }
    }

    pub(crate) fn address(address: SocketAddr) -> Self {
        Self { name: None, address: Some(address.ip()), port: Some(address.port()) }
    }

    pub(crate) fn named(name: &Domain, address: SocketAddr) -> Self {
        Self { name: Some(name.clone()), ..Self::address(address) }
    }
}

/// The name rather than the address.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, self.address, self.port) {
            (Some(name), _, Some(port)) => write!(f, "{name}:{port}"),
            (Some(name), _, None) => name.fmt(f),
            (None, Some(ip), port) => SocketAddr::new(ip, port.unwrap_or(0)).fmt(f),
            (None, None, _) => f.write_str("nowhere"),
        }
    }
}

/// What a flow carried until its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// Bytes out of the sandbox, as the destination got them: with TLS, without TCP.
    pub sent: u64,
    pub received: u64,
    pub millis: u64,
}

/// One decision, or the end of what it let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub at: DateTime<Utc>,
    pub decision: Decision,
    /// `tcp`, `udp`, `http` or `dns`.
    pub protocol: &'static str,
    pub target: Target,
    /// What decided: a rule of the sandbox, or a word for what holds for all of them.
    pub rule: String,
    /// Why it was denied, failed or cut.
    pub reason: Option<String>,
    /// The same for the begin and the end of one flow.
    pub flow: Option<u64>,
    pub carried: Option<Carried>,
}

impl Event {
    pub(crate) fn new(
        decision: Decision,
        protocol: &'static str,
        target: Target,
        rule: String,
    ) -> Self {
        let (reason, flow, carried) = (None, None, None);
        Self { at: Utc::now(), decision, protocol, target, rule, reason, flow, carried }
    }
}

/// Since the server began to serve the sandbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub sent: u64,
    pub received: u64,
    pub allowed: u64,
    pub denied: u64,
    pub failed: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.allowed += other.allowed;
        self.denied += other.denied;
        self.failed += other.failed;
    }
}

#[derive(Debug)]
pub struct Traffic {
    log: Mutex<Log>,
    /// The number of the next event.
    next: watch::Sender<u64>,
    flows: AtomicU64,
    bytes: [AtomicU64; 2],
    allowed: AtomicU64,
    denied: AtomicU64,
    failed: AtomicU64,
    limits: Limits,
}

#[derive(Debug, Default)]
struct Log {
    next: u64,
    events: VecDeque<Event>,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            log: Mutex::default(),
            next: watch::Sender::new(0),
            flows: AtomicU64::default(),
            bytes: Default::default(),
            allowed: AtomicU64::default(),
            denied: AtomicU64::default(),
            failed: AtomicU64::default(),
            limits: Limits::default(),
        }
    }
}

impl Traffic {
    pub fn counts(&self) -> Counts {
        let [sent, received] = &self.bytes;
        Counts {
            sent: sent.load(Relaxed),
            received: received.load(Relaxed),
            allowed: self.allowed.load(Relaxed),
            denied: self.denied.load(Relaxed),
            failed: self.failed.load(Relaxed),
        }
    }

    /// What was used of limits of bytes, of those apart of which nothing was.
    pub fn used(&self) -> Vec<BytesUsed> {
        self.limits.used()
    }

    /// What was used of limits of which more was since [`Traffic::saved`].
    pub fn unsaved(&self) -> Vec<BytesUsed> {
        self.limits.unsaved()
    }

    /// These were written down.
    pub fn saved(&self, written: &[BytesUsed]) {
        self.limits.saved(written);
    }

    /// Goes on, before there is a gate, where an earlier server wrote down that it was.
    pub fn resume(&self, limits: &[ByteLimit], written: &[BytesUsed]) {
        self.limits.resume(limits, written);
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn note(&self, event: Event) {
        match event.decision {
            Decision::Allowed => self.allowed.fetch_add(1, Relaxed),
            Decision::Denied => self.denied.fetch_add(1, Relaxed),
            Decision::Failed => self.failed.fetch_add(1, Relaxed),
            Decision::Ended => 0,
        };
        let mut log = self.log.lock();
        if log.events.len() == KEPT {
            log.events.pop_front();
        }
        log.events.push_back(event);
        log.next += 1;
        self.next.send_replace(log.next);
    }

    /// Reads events from number `since` on, with `follow` those to come too; `None` if too many read
    /// already.
    pub fn read(self: &Arc<Self>, since: u64, follow: bool) -> Option<Reader> {
        let next = self.next.subscribe();
        let until = (!follow).then(|| *next.borrow());
        let few = self.next.receiver_count() as u64 <= READERS;
        few.then(|| Reader { traffic: Arc::clone(self), next, since, until })
    }
}

/// Reads the events of a sandbox, each once.
#[derive(Debug)]
pub struct Reader {
    traffic: Arc<Traffic>,
    next: watch::Receiver<u64>,
    since: u64,
    until: Option<u64>,
}

/// Some events, oldest first.
#[derive(Debug)]
pub struct Part {
    /// Events before these that are no more.
    pub lost: u64,
    /// The number of the first.
    pub first: u64,
    pub events: Vec<Event>,
}

impl Reader {
    /// At most `most` events that are there already.
    pub fn part(&mut self, most: usize) -> Part {
        // Before the look: what comes after it wakes `more`.
        self.next.mark_unchanged();
        let log = self.traffic.log.lock();
        let oldest = log.next - log.events.len() as u64;
        // A number of another time, before a restart, is none of ours.
        let wanted = if self.since > log.next { oldest } else { self.since };
        let first = wanted.max(oldest);
        let skipped = (first - oldest) as usize;
        let wished = self.until.map_or(u64::MAX, |until| until.saturating_sub(first));
        let most = most.min(usize::try_from(wished).unwrap_or(usize::MAX));
        let events: Vec<_> = log.events.iter().skip(skipped).take(most).cloned().collect();
        self.since = first + events.len() as u64;
        Part { lost: first - wanted, first, events }
    }

    /// Waits until there is more.
    pub async fn more(&mut self) {
        // The sender lives as long as the traffic, which this holds.
        let _ = self.next.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(port: u16) -> Event {
        let target = Target { port: Some(port), ..Target::default() };
        Event::new(Decision::Denied, "tcp", target, "default deny".to_owned())
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_what_it_missed_and_memory_is_bounded() {
        let traffic = Arc::<Traffic>::default();
        let mut reader = traffic.read(0, true).unwrap();
        (0..10).for_each(|port| traffic.note(event(port)));
        let part = reader.part(4);
        assert_eq!((part.lost, part.first, part.events.len()), (0, 0, 4));
        (10..2000).for_each(|port| traffic.note(event(port)));
        assert_eq!(traffic.log.lock().events.len(), KEPT);
        let part = reader.part(KEPT + 1);
        assert_eq!((part.lost, part.first), (2000 - KEPT as u64 - 4, 2000 - KEPT as u64));
        assert_eq!(part.events.last().unwrap().target.port, Some(1999));
        assert!(reader.part(1).events.is_empty());
        let woken = tokio::spawn(async move {
            reader.more().await;
            reader.part(10).events.len()
        });
        tokio::task::yield_now().await;
        traffic.note(event(1));
        assert_eq!(woken.await.unwrap(), 1);
        assert_eq!(traffic.counts().denied, 2001);
    }

    #[test]
    fn who_does_not_follow_comes_to_an_end() {
        let traffic = Arc::<Traffic>::default();
        (0..3).for_each(|port| traffic.note(event(port)));
        let mut reader = traffic.read(1, false).unwrap();
        traffic.note(event(3));
        assert_eq!(reader.part(10).events.len(), 2);
        assert!(reader.part(10).events.is_empty());
    }

    #[test]
    fn readers_are_few_and_a_number_of_before_a_restart_is_the_beginning() {
        let traffic = Arc::<Traffic>::default();
        traffic.note(event(1));
        let mut readers: Vec<_> = (0..READERS).map(|_| traffic.read(77, true).unwrap()).collect();
        assert!(traffic.read(0, true).is_none());
        assert_eq!(readers[0].part(5).events.len(), 1);
        readers.pop();
        assert!(traffic.read(0, true).is_some());
    }
}
