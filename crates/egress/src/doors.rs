//! Which destinations of UDP the kernel lets through to the relay, as the rules and the names that a
//! sandbox was told lead there.

use std::{
    collections::HashSet,
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use soulbox_model::network::{Cidr, Destination, Domain, Pattern, UdpRule};
use soulbox_sys::outward::{self, Door};
use tokio::time::Instant;

use crate::{Policy, dns::Pins};

/// Doors of one sandbox, of all that its rules and its names lead to.
const DOORS: usize = 4096;
/// How soon they may be found anew to make room: with many rules and names that takes milliseconds.
const ANEW: Duration = Duration::from_secs(10);

/// The doors of a sandbox that are open in the kernel.
#[derive(Debug)]
pub(crate) struct Doors {
    table: OwnedFd,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    doors: HashSet<Door>,
    /// When all of them were last found anew.
    since: Instant,
}

impl Doors {
    pub(crate) fn new(table: OwnedFd) -> Self {
        let open = Open { doors: HashSet::new(), since: Instant::now() };
        Self { table, open: Mutex::new(open) }
    }

    /// Opens what the rules lead to, with names as far as addresses are known for them, and closes the
    /// rest.
    pub(crate) fn set(&self, now: impl FnOnce() -> Arc<Policy>, pins: &Pins) {
        // One after the other, so that the last policy has the last word.
        let mut open = self.open.lock();
        self.replace(&mut open, &now(), pins);
    }

    /// Opens what the rules lead to under a name, of which these addresses were just noted. This is
    /// asked as often as a sandbox asks for names, so the other doors are left as they are; the rules
    /// close to what is forgotten meanwhile.
    pub(crate) fn add(
        &self,
        now: impl FnOnce() -> Arc<Policy>,
        pins: &Pins,
        name: &Domain,
        addresses: &[IpAddr],
    ) {
        let mut open = self.open.lock();
        let policy = now();
        let mut more = named(&policy, name, addresses);
        more.retain(|door| !open.doors.contains(door));
        if open.doors.len() + more.len() > DOORS && open.since.elapsed() > ANEW {
            return self.replace(&mut open, &policy, pins);
        }
        for door in more.into_iter().take(DOORS.saturating_sub(open.doors.len())) {
            self.open(door);
            open.doors.insert(door);
        }
    }

    fn replace(&self, open: &mut Open, policy: &Policy, pins: &Pins) {
        let wanted: HashSet<Door> = wanted(policy, pins).take(DOORS).collect();
        for door in open.doors.difference(&wanted) {
            let _ = outward::close_door(self.table.as_fd(), *door);
        }
        wanted.difference(&open.doors).for_each(|door| self.open(*door));
        *open = Open { doors: wanted, since: Instant::now() };
    }

    fn open(&self, door: Door) {
        if let Err(error) = outward::open_door(self.table.as_fd(), door) {
            tracing::warn!(%error, ?door, "a door for UDP could not be opened");
        }
    }
}

fn rules(policy: &Policy) -> &[UdpRule] {
    if policy.egress().proxy.is_some() { &[] } else { &policy.egress().udp }
}

fn named(policy: &Policy, name: &Domain, addresses: &[IpAddr]) -> HashSet<Door> {
    // Of every name, the door is open to every address already.
    let any = Destination::Name(Pattern::Any);
    let matching = |rule: &&UdpRule| rule.destination != any && rule.destination.names(name);
    let ports = rules(policy).iter().filter(matching).map(|rule| rule.port.get());
    ports.flat_map(|port| addresses.iter().map(move |ip| door(port, Cidr::one(*ip)))).collect()
}

fn wanted<'a>(policy: &'a Policy, pins: &'a Pins) -> impl Iterator<Item = Door> + 'a {
    rules(policy).iter().flat_map(|rule| {
        let ranges = match &rule.destination {
            Destination::Net(range) => vec![*range],
            Destination::Name(Pattern::Any) => {
                Cidr::new(IpAddr::from([0; 4]), 0).into_iter().collect()
            }
            Destination::Name(pattern) => {
                pins.addresses(|name| pattern.matches(name)).into_iter().map(Cidr::one).collect()
            }
        };
        let port = rule.port.get();
        ranges.into_iter().map(move |range| door(port, range))
    })
}

fn door(port: u16, range: Cidr) -> Door {
    Door { port, address: range.address(), prefix: range.prefix() }
}

#[cfg(test)]
mod tests {
    use soulbox_model::network::Egress;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_opens_doors_to_its_addresses_alone() {
        let rules = ["*.example.com:7", "a.example.com:9", "other.org:7"];
        let egress =
            Egress { udp: rules.map(|rule| rule.parse().unwrap()).into(), ..Egress::default() };
        let policy = Arc::new(Policy::new(egress, &[]));
        let doors = Doors::new(std::fs::File::open("/dev/null").unwrap().into());
        let pins = Pins::default();
        let (a, other): (Domain, Domain) =
            ("a.example.com".parse().unwrap(), "other.org".parse().unwrap());
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        let answered = |name: &Domain, n: u32| {
            pins.note(name, &[address(n)]);
            doors.add(|| Arc::clone(&policy), &pins, name, &[address(n)]);
            doors.open.lock().doors.len()
        };
        pins.note(&other, &[address(1)]);
        assert_eq!(answered(&a, 2), 2);
        let opened = [7, 9].map(|port| door(port, Cidr::one(address(2))));
        assert_eq!(doors.open.lock().doors, opened.into());
        let most = (3..6000).map(|n| answered(&other, n)).max();
        assert_eq!(most, Some(DOORS));
        tokio::time::advance(ANEW * 2).await;
        assert!(answered(&other, 6000) < DOORS / 2, "what is forgotten keeps no door open");
    }
}
