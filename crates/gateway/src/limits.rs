//! How much one client address may ask for at a time and in a time.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Lets through so many a second on average, and at first as many as fit in two seconds.
#[derive(Debug)]
pub(crate) struct Bucket {
    per_second: f64,
    level: f64,
    filled: Instant,
}

impl Bucket {
    const DEPTH: f64 = 2.0;

    pub fn new(per_second: u32) -> Self {
        let per_second = f64::from(per_second);
        Self { per_second, level: per_second * Self::DEPTH, filled: Instant::now() }
    }

    pub fn take(&mut self) -> bool {
        self.fill();
        let granted = self.level >= 1.0;
        if granted {
            self.level -= 1.0;
        }
        granted
    }

    /// Takes more than one, down to nothing.
    pub fn spend(&mut self, count: u32) {
        self.fill();
        self.level = (self.level - f64::from(count)).max(0.0);
    }

    /// Nothing of what was taken is owed any more.
    pub fn is_full(&mut self) -> bool {
        self.fill();
        self.level >= self.per_second * Self::DEPTH
    }

    fn fill(&mut self) {
        let now = Instant::now();
        let gained = now.duration_since(self.filled).as_secs_f64() * self.per_second;
        self.level = (self.level + gained).min(self.per_second * Self::DEPTH);
        self.filled = now;
    }
}

/// The clients of one listener, by address.
pub(crate) struct Clients {
    known: Mutex<HashMap<IpAddr, Arc<Client>>>,
    max_connections: usize,
    per_second: u32,
    /// Programs of this machine are its operator's, a proxy in front of the gateway among them.
    spare_loopback: bool,
}

pub(crate) struct Client {
    connections: AtomicUsize,
    requests: Mutex<Bucket>,
}

/// The right to one connection.
pub(crate) struct Seat(Option<Arc<Client>>);

impl Clients {
    pub fn new(max_connections: usize, per_second: u32, spare_loopback: bool) -> Self {
        Self { known: Mutex::default(), max_connections, per_second, spare_loopback }
    }

    /// `None` when the address has as many connections as it may have.
    pub fn enter(&self, address: IpAddr) -> Option<Seat> {
        let address = address.to_canonical();
        if self.spare_loopback && address.is_loopback() {
            return Some(Seat(None));
        }
        let mut known = self.known.lock();
        let client = known.entry(who(address)).or_insert_with(|| {
            Arc::new(Client {
                connections: AtomicUsize::new(0),
                requests: Mutex::new(Bucket::new(self.per_second)),
            })
        });
        if client.connections.load(Ordering::Acquire) >= self.max_connections {
            return None;
        }
        client.connections.fetch_add(1, Ordering::AcqRel);
        Some(Seat(Some(Arc::clone(client))))
    }

    /// Forgets those that have nothing open and nothing to answer for.
    pub fn sweep(&self) {
        self.known.lock().retain(|_, client| {
            client.connections.load(Ordering::Acquire) > 0 || !client.requests.lock().is_full()
        });
    }
}

impl Seat {
    /// Whether one more request may be made now.
    pub fn may_ask(&self) -> bool {
        self.0.as_ref().is_none_or(|client| client.requests.lock().take())
    }

    /// Counts a request that cost more than others as so many more.
    pub fn pay(&self, requests: u32) {
        if let Some(client) = &self.0 {
            client.requests.lock().spend(requests);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(client) = &self.0 {
            client.connections.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// One household has a whole /64 of IPv6.
fn who(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_so_many_seats_and_others_have_theirs() {
        let clients = Clients::new(2, 100, true);
        let seats = [clients.enter(ip("192.0.2.1")), clients.enter(ip("::ffff:192.0.2.1"))];
        assert!(seats.iter().all(Option::is_some));
        assert!(clients.enter(ip("192.0.2.1")).is_none());
        assert!(clients.enter(ip("192.0.2.2")).is_some());
        drop(seats);
        assert!(clients.enter(ip("192.0.2.1")).is_some());

        let _first = clients.enter(ip("2001:db8::1")).unwrap();
        let _second = clients.enter(ip("2001:db8::ffff:2")).unwrap();
        assert!(clients.enter(ip("2001:db8::3")).is_none());
        assert!(clients.enter(ip("2001:db8:0:1::3")).is_some());
        let spared: Vec<_> = (0..5).map(|_| clients.enter(ip("127.0.0.1"))).collect();
        assert!(spared.iter().all(Option::is_some));
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_counted_over_connections_and_time() {
        let clients = Clients::new(10, 5, true);
        let seat = clients.enter(ip("192.0.2.1")).unwrap();
        let granted = (0..20).filter(|_| seat.may_ask()).count();
        assert_eq!(granted, 10);
        drop(seat);
        clients.sweep();
        // Coming back does not help.
        let seat = clients.enter(ip("192.0.2.1")).unwrap();
        assert!(!seat.may_ask());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((0..20).filter(|_| seat.may_ask()).count(), 5);
        drop(seat);
        tokio::time::advance(Duration::from_secs(3)).await;
        clients.sweep();
        assert!(clients.known.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_cost_more_counts_as_many() {
        let clients = Clients::new(10, 50, true);
        let seat = clients.enter(ip("192.0.2.1")).unwrap();
        seat.pay(90);
        assert_eq!((0..20).filter(|_| seat.may_ask()).count(), 10);
        seat.pay(1_000_000);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(seat.may_ask(), "nobody owes more than there is");
    }
}
