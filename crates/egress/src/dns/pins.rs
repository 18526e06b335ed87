//! Which names a sandbox was told for which addresses.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use soulbox_model::network::Domain;

/// Addresses that are remembered of one sandbox.
const MOST: usize = 1024;
/// Names of one address.
const NAMES: usize = 8;
/// How long an answer counts; longer than records live, since programs keep what they resolved.
const KEPT: Duration = Duration::from_secs(3600);

#[derive(Debug, Default)]
pub(crate) struct Pins(Mutex<HashMap<IpAddr, Vec<(Domain, Instant)>>>);

impl Pins {
    pub(crate) fn note(&self, name: &Domain, addresses: &[IpAddr]) {
        let now = Instant::now();
        let mut pins = self.0.lock();
        for address in addresses {
            if pins.len() >= MOST && !pins.contains_key(address) {
                pins.retain(|_, names| names.iter().any(|(_, since)| now - *since < KEPT / 4));
                if pins.len() >= MOST {
                    return;
                }
            }
            let names = pins.entry(*address).or_default();
            names.retain(|(known, since)| known != name && now - *since < KEPT);
            if names.len() == NAMES {
                names.remove(0);
            }
            names.push((name.clone(), now));
        }
    }

    /// Addresses that have a name that `wanted` takes.
    pub(crate) fn addresses(&self, wanted: impl Fn(&Domain) -> bool) -> Vec<IpAddr> {
        let pins = self.0.lock();
        let known = |names: &[(Domain, Instant)]| {
            names.iter().any(|(name, since)| since.elapsed() < KEPT && wanted(name))
        };
        pins.iter().filter(|(_, names)| known(names)).map(|(address, _)| *address).collect()
    }

    /// All names of `address`.
    pub(crate) fn names(&self, address: IpAddr) -> Vec<Domain> {
        let pins = self.0.lock();
        let names = pins.get(&address.to_canonical()).map_or(&[][..], Vec::as_slice);
        let fresh = names.iter().filter(|(_, since)| since.elapsed() < KEPT);
        fresh.map(|(name, _)| name.clone()).collect()
    }

    /// The newest name of `address` that `wanted` takes.
    pub(crate) fn name(&self, address: IpAddr, wanted: impl Fn(&Domain) -> bool) -> Option<Domain> {
        let pins = self.0.lock();
        let names = pins.get(&address.to_canonical())?;
        let fresh = names.iter().rev().filter(|(_, since)| since.elapsed() < KEPT);
        fresh.map(|(name, _)| name).find(|name| wanted(name)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_the_newest_wanted_name_counts() {
        let pins = Pins::default();
        let name = |n: u32| -> Domain { format!("n{n}.example.com").parse().unwrap() };
        for n in 0..5000 {
            pins.note(&name(n % 20), &[IpAddr::from(n.to_be_bytes())]);
        }
        assert!(pins.0.lock().len() <= MOST);
        let one: IpAddr = [0, 0, 0, 1].into();
        for n in 0..20 {
            pins.note(&name(n), &[one]);
        }
        assert_eq!(pins.name(one, |_| true), Some(name(19)));
        assert_eq!(pins.name(one, |known| *known == name(15)), Some(name(15)));
        assert_eq!(pins.name(one, |known| *known == name(2)), None, "forgotten");
    }
}
