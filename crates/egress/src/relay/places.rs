//! Places for flows of datagrams, shared by all sandboxes of a server.
//!
//! When all are taken, the idlest flow of the sandbox that has most gives way to a new one. So none is
//! ever without, and none has fewer than others for their sake.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Flow, Key};

/// One of the places is taken until this is dropped.
pub(super) type Turn = OwnedSemaphorePermit;

#[derive(Debug)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    tables: Mutex<Vec<Weak<Table>>>,
}

/// The flows of one sandbox.
#[derive(Debug, Default)]
pub(crate) struct Table(Mutex<HashMap<Key, Arc<Flow>>>);

impl Places {
    pub(crate) fn new(most: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(most)), tables: Mutex::default() }
    }

    /// For the flows of one more sandbox.
    pub(super) fn table(&self) -> Arc<Table> {
        let table = Arc::<Table>::default();
        let mut tables = self.tables.lock();
        tables.retain(|table| table.strong_count() > 0);
        tables.push(Arc::downgrade(&table));
        table
    }

    /// A place for one more flow of a sandbox; none only while flows that gave theirs up still end.
    pub(super) fn take(&self, own: &Table) -> Option<Turn> {
        Arc::clone(&self.free).try_acquire_owned().ok().or_else(|| self.make_way(own))
    }

    fn make_way(&self, own: &Table) -> Option<Turn> {
        let tables = self.tables.lock();
        let (largest, most) = tables
            .iter()
            .filter_map(Weak::upgrade)
            .map(|table| (table.len(), table))
            .max_by_key(|(length, _)| *length)
            .map(|(length, table)| (table, length))?;
        // Who would have more than it leaves to the other gives up one of its own.
        let has = own.len();
        if has > 0 && has + 1 >= most { own.give_up() } else { largest.give_up() }
    }
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Flow>> {
        self.0.lock().get(key).cloned()
    }

    pub(super) fn add(&self, key: Key, flow: Arc<Flow>) {
        self.0.lock().insert(key, flow);
    }

    /// Forgets a flow, not one that has its key by now.
    pub(super) fn remove(&self, key: Key, flow: &Arc<Flow>) {
        if let Entry::Occupied(entry) = self.0.lock().entry(key)
            && Arc::ptr_eq(entry.get(), flow)
        {
            entry.remove();
        }
    }

    /// The place of the idlest flow, which ends.
    fn give_up(&self) -> Option<Turn> {
        let mut flows = self.0.lock();
        let idlest = flows.iter().min_by_key(|(_, flow)| *flow.used.lock()).map(|(key, _)| *key)?;
        flows.remove(&idlest)?.give_way()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::{
        super::{begin, tests::letting},
        *,
    };
    use crate::{
        Reason,
        gate::{Shared, tests::parts},
    };

    /// A sandbox that opens flows from one port after the other.
    struct Sandbox {
        shared: Arc<Shared>,
        table: Arc<Table>,
        next: u16,
    }

    impl Sandbox {
        fn opens(&mut self) -> Option<Arc<Flow>> {
            let from = SocketAddr::from(([10, 0, 2, 15], self.next));
            self.next += 1;
            begin(&self.shared, &self.table, (from, "127.0.0.1:9".parse().unwrap()))
        }
    }

    /// Sandboxes of a server that has few places.
    fn sandboxes<const N: usize>(places: usize) -> [Sandbox; N] {
        let first = letting(&["127.0.0.1:9".to_owned()]);
        let service = &first.shared.service;
        service.datagrams.free.forget_permits(usize::MAX);
        service.datagrams.free.add_permits(places);
        let egress = first.policy.borrow().egress().clone();
        [(); N].map(|()| {
            let shared = parts(Arc::clone(service), egress.clone()).shared;
            Sandbox { shared, table: service.datagrams.table(), next: 1024 }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_most_gives_its_idlest_flow_to_who_has_fewer() {
        let [mut greedy, mut modest] = sandboxes(4);
        let mut flows = Vec::new();
        for _ in 0..4 {
            flows.push(greedy.opens().unwrap());
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
        }
        *flows[0].used.lock() = tokio::time::Instant::now();
        let first = modest.opens().unwrap();
        // Of two that were used at the same moment, either may go.
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        let mut own = [first, modest.opens().unwrap()];
        let cut: Vec<_> = flows.iter().map(|flow| flow.meter.was_cut()).collect();
        let gave_way = Some(Reason::CrowdedUdp);
        assert_eq!(cut, [None, gave_way.clone(), gave_way.clone(), None]);
        assert_eq!((greedy.table.len(), modest.table.len()), (2, 2));
        // Now that all have the same, whoever wants more gives up an own one.
        own[1] = modest.opens().unwrap();
        greedy.opens().unwrap();
        assert_eq!(own[0].meter.was_cut(), gave_way);
        assert_eq!(own[1].meter.was_cut(), None);
        assert_eq!(flows[3].meter.was_cut(), gave_way);
        assert_eq!((greedy.table.len(), modest.table.len()), (2, 2));
    }

    #[tokio::test]
    async fn every_sandbox_has_its_share_however_many_try_and_how_often() {
        let mut all = sandboxes::<5>(12);
        for round in 0..40 {
            let hostile = if round < 20 { 4 } else { 5 };
            for sandbox in all.iter_mut().take(hostile) {
                for _ in 0..3 {
                    assert!(sandbox.opens().is_some());
                }
            }
            let held: Vec<_> = all.iter().map(|sandbox| sandbox.table.len()).collect();
            assert_eq!(held.iter().sum::<usize>(), 12);
            assert!(held.iter().take(hostile).all(|held| (2..=3).contains(held)), "{held:?}");
        }
    }

    #[tokio::test]
    async fn more_sandboxes_than_places_have_one_by_turns() {
        let mut all = sandboxes::<5>(2);
        for _ in 0..3 {
            for sandbox in &mut all {
                assert!(sandbox.opens().is_some());
                assert_eq!(sandbox.table.len(), 1);
            }
        }
    }

    #[tokio::test]
    async fn places_come_back_with_flows_and_with_sandboxes() {
        let [mut one, mut other] = sandboxes(2);
        let places = Arc::clone(&one.shared.service.datagrams.free);
        let (flow, _second) = (one.opens().unwrap(), one.opens().unwrap());
        let key = (SocketAddr::from(([10, 0, 2, 15], 1024)), "127.0.0.1:9".parse().unwrap());
        one.table.remove(key, &flow);
        drop(flow);
        assert_eq!(places.available_permits(), 1);
        let late = other.opens().unwrap();
        drop((one, _second));
        assert_eq!(places.available_permits(), 1);
        // Who ends late takes away nothing that came after it under its key.
        let key = (SocketAddr::from(([10, 0, 2, 15], 1024)), "127.0.0.1:9".parse().unwrap());
        let again = other.table.give_up().map(drop).and_then(|()| {
            other.next = 1024;
            other.opens()
        });
        other.table.remove(key, &late);
        assert!(Arc::ptr_eq(&other.table.get(&key).unwrap(), &again.unwrap()));
        assert_eq!(places.available_permits(), 1);
    }
}
