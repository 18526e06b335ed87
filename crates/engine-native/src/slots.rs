//! Slots: each sandbox has a number, and by it a range of user ids and a cgroup of its own.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    os::fd::OwnedFd,
    sync::Arc,
};

use parking_lot::Mutex;
use soulbox_engine::Error;
use soulbox_sys::userns;

/// The first id that a sandbox may get; below are the host's own users and other tools' ranges.
const FIRST_ID: u32 = 0x4000_0000;

/// How many ranges of 65536 ids there are from [`FIRST_ID`] on, short of the ids that tools treat as negative.
const RANGES: u32 = (0x7FFF_0000 - FIRST_ID) / userns::RANGE;

/// Hands out slots and keeps their user namespaces for reuse.
#[derive(Debug)]
pub(crate) struct Slots {
    /// Where this server's ranges begin, so that two servers on a machine rarely share one.
    offset: u32,
    limit: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    used: BTreeSet<u32>,
    /// Of slots that are free again: making a user namespace costs more than all the rest of a slot.
    namespaces: HashMap<u32, Arc<OwnedFd>>,
}

/// A slot in use.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) number: u32,
    /// The id outside that is 0 inside.
    pub(crate) first_id: u32,
    pub(crate) userns: Arc<OwnedFd>,
}

impl Slot {
    /// The name of the slot's cgroup.
    pub(crate) fn group(&self) -> String {
        self.number.to_string()
    }
}

impl Slots {
    pub(crate) fn new(instance: u32, limit: u32) -> Self {
        Self { offset: instance % RANGES, limit: limit.min(RANGES), state: Mutex::default() }
    }

    /// Takes the lowest free slot.
    ///
    /// # Errors
    /// [`Error::Exhausted`] when all are in use.
    pub(crate) fn take(&self) -> Result<Slot, Error> {
        let (number, known) = {
            let mut state = self.state.lock();
            let number = (0..self.limit).find(|n| !state.used.contains(n)).ok_or({
                let limit = u64::from(self.limit);
                Error::Exhausted { resource: "sandboxes", current: limit, limit }
            })?;
            state.used.insert(number);
            (number, state.namespaces.remove(&number))
        };
        let first_id = self.first_id(number);
        let userns = match known {
            Some(userns) => userns,
            None => Arc::new(userns::create(first_id).map_err(|error| {
                self.state.lock().used.remove(&number);
                Error::Stage { stage: "make a user namespace", source: error }
            })?),
        };
        Ok(Slot { number, first_id, userns })
    }

    /// Marks the slot of an adopted sandbox as used.
    ///
    /// # Errors
    /// `AlreadyExists` if it is.
    pub(crate) fn adopt(&self, number: u32, userns: OwnedFd) -> io::Result<Slot> {
        if !self.state.lock().used.insert(number) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(Slot { number, first_id: self.first_id(number), userns: Arc::new(userns) })
    }

    /// Gives back a slot whose processes are gone and whose cgroup is removed.
    pub(crate) fn release(&self, slot: Slot) {
        let mut state = self.state.lock();
        state.used.remove(&slot.number);
        state.namespaces.insert(slot.number, slot.userns);
    }

    pub(crate) fn is_used(&self, number: u32) -> bool {
        self.state.lock().used.contains(&number)
    }

    fn first_id(&self, number: u32) -> u32 {
        FIRST_ID + (self.offset + number) % RANGES * userns::RANGE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_never_overlap_and_come_back() {
        let slots = Slots::new(RANGES - 1, 3);
        let taken: Vec<Slot> = (0..3).map(|_| slots.take().unwrap()).collect();
        let mut firsts: Vec<u32> = taken.iter().map(|slot| slot.first_id).collect();
        firsts.sort_unstable();
        assert!(firsts.windows(2).all(|pair| pair[1] - pair[0] >= userns::RANGE));
        assert!(firsts.iter().all(|first| *first >= FIRST_ID && *first < 0x7FFF_0000));
        assert!(matches!(slots.take(), Err(Error::Exhausted { limit: 3, .. })));
        slots.release(taken[1].clone());
        assert_eq!(slots.take().unwrap().number, 1);
    }
}
