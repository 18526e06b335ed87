//! Sandboxes made ahead, so that a create only has to tell one who it is.
//!
//! What is asked for now will be asked for again: a seat that is taken is replaced by one that
//! has the same root already. Some are kept blank for whatever else comes; such a create only has
//! to join one to its root.
//!
//! One thread keeps the pool full. It stands back while sandboxes are being created and do their first
//! work, since it would compete with them for processors, unless the pool is about to run dry; an
//! empty pool only means that a create makes its own seat.

use std::{
    collections::VecDeque,
    io,
    path::Path,
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use soulbox_engine::{Error, Rootfs, SandboxSpec};
use soulbox_faults::point;
use soulbox_model::Resources;

use crate::{Host, start::Seat};

/// How long after the latest creation the pool stands back.
const STAND_BACK: Duration = Duration::from_millis(12);
/// How long it stands back when it is about to run dry.
const HURRY: Duration = Duration::from_millis(4);
/// How long it rests when no seat can be made.
const REST: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Pool {
    target: usize,
    resources: Resources,
    state: Mutex<State>,
    changed: Condvar,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<Seat>,
    /// Roots that the next seats should have; those beyond stay blank.
    wanted: VecDeque<Rootfs>,
    creating: usize,
    /// When the latest creation ended.
    created: Option<Instant>,
    closed: bool,
}

/// Counts a creation under way.
#[derive(Debug)]
pub(crate) struct Creating<'a>(&'a Pool);

impl Drop for Creating<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.creating -= 1;
        state.created = Some(Instant::now());
        drop(state);
        self.0.changed.notify_one();
    }
}

impl State {
    fn blanks(&self) -> usize {
        self.ready.iter().filter(|seat| seat.rootfs.is_none()).count()
    }

    /// The best seat for `rootfs`: one that has it, or a blank one.
    fn take(&mut self, rootfs: &Rootfs) -> Option<Seat> {
        let has = |wanted: Option<&Rootfs>| {
            self.ready.iter().position(|seat| seat.rootfs.as_ref() == wanted)
        };
        let at = has(Some(rootfs)).or_else(|| has(None))?;
        self.ready.remove(at)
    }
}

impl Pool {
    pub(crate) fn new(target: usize, resources: Resources) -> Self {
        Self {
            target,
            resources,
            state: Mutex::default(),
            changed: Condvar::new(),
            thread: Mutex::default(),
        }
    }

    /// Begins to fill the pool; not before sandboxes of an earlier server have their slots back.
    pub(crate) fn start(&self, host: &Arc<Host>) -> io::Result<()> {
        let mut thread = self.thread.lock();
        if self.target == 0 || thread.is_some() {
            return Ok(());
        }
        let host = Arc::downgrade(host);
        *thread = Some(thread::Builder::new().name("pool".into()).spawn(move || fill(&host))?);
        Ok(())
    }

    pub(crate) fn creating(&self) -> Creating<'_> {
        self.state.lock().creating += 1;
        Creating(self)
    }

    /// A seat that still waits, with the root of `spec` or blank, if there is one.
    pub(crate) fn take(&self, host: &Host, spec: &SandboxSpec) -> Option<Seat> {
        if self.target == 0 || spec.resources != self.resources {
            return None;
        }
        let mut state = self.state.lock();
        self.note(&mut state, &spec.rootfs);
        while let Some(mut seat) = state.take(&spec.rootfs) {
            if seat.is_waiting() {
                if seat.rootfs.is_none() {
                    // One more than there was of it.
                    self.note(&mut state, &spec.rootfs);
                }
                point("pool.taken");
                return Some(seat);
            }
            host.undertaker.bury(seat.remains.take());
        }
        // All that is left is of templates that nobody asks for at this moment.
        if let Some(mut seat) = state.ready.pop_front() {
            host.undertaker.bury(seat.remains.take());
        }
        None
    }

    /// Gives up the seats that have `layer` in their root, and makes no more of them.
    pub(crate) fn release(&self, host: &Host, layer: &Path) {
        let uses = |rootfs: &Rootfs| rootfs.layers.iter().any(|used| used.starts_with(layer));
        let mut state = self.state.lock();
        state.wanted.retain(|rootfs| !uses(rootfs));
        let (used, kept) = std::mem::take(&mut state.ready)
            .into_iter()
            .partition::<VecDeque<_>, _>(|seat| seat.rootfs.as_ref().is_some_and(uses));
        state.ready = kept;
        drop(state);
        for mut seat in used {
            host.undertaker.bury(seat.remains.take());
        }
        self.changed.notify_one();
    }

    fn note(&self, state: &mut State, rootfs: &Rootfs) {
        state.wanted.push_back(rootfs.clone());
        while state.wanted.len() > self.furnished() {
            state.wanted.pop_front();
        }
    }

    /// How many seats may have a root ahead: the others serve what was not foreseen.
    fn furnished(&self) -> usize {
        self.target * 3 / 4
    }

    /// Ends the filling and gives up what is in the pool.
    pub(crate) fn close(&self, host: &Host) {
        self.state.lock().closed = true;
        self.changed.notify_all();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
        for mut seat in self.state.lock().ready.drain(..) {
            host.undertaker.bury(seat.remains.take());
        }
    }

    /// Waits for something to do; `false` when the pool is closed.
    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        let began = Instant::now();
        while !state.closed {
            if state.ready.len() >= self.target && !self.may_furnish(&state) {
                self.changed.wait(&mut state);
                continue;
            }
            let low = state.ready.len() <= self.target / 4;
            let patience = if low { HURRY } else { STAND_BACK };
            let since = match state.created {
                // However busy it is, there is always some progress.
                _ if state.creating > 0 => began,
                Some(created) => created,
                None => return true,
            };
            let Some(left) = patience.checked_sub(since.elapsed()) else { return true };
            self.changed.wait_for(&mut state, left);
        }
        false
    }

    fn may_furnish(&self, state: &State) -> bool {
        !state.wanted.is_empty() && state.blanks() > self.target - self.furnished()
    }

    /// Makes one seat, or gives one that is blank the root that is wanted.
    fn add(&self, host: &Host) -> Result<(), Error> {
        let (blank, rootfs) = {
            let mut state = self.state.lock();
            let full = state.ready.len() >= self.target;
            let blank = full.then(|| state.ready.iter().position(|seat| seat.rootfs.is_none()));
            let blank = blank.flatten().and_then(|at| state.ready.remove(at));
            let enough = state.blanks() >= self.target - self.furnished();
            // The latest wish says most about the next one.
            (blank, if enough { state.wanted.pop_back() } else { None })
        };
        let mut seat = blank.map_or_else(|| host.blank(self.resources), Ok)?;
        point("pool.blank");
        match rootfs {
            Some(rootfs) => host
                .furnish(&mut seat, &rootfs)
                .inspect_err(|_| host.undertaker.bury(seat.remains.take()))?,
            None => host.open_way_out(&seat),
        }
        self.state.lock().ready.push_back(seat);
        point("pool.added");
        Ok(())
    }

    fn rest(&self) {
        let mut state = self.state.lock();
        if !state.closed {
            self.changed.wait_for(&mut state, REST);
        }
    }
}

fn fill(host: &Weak<Host>) {
    while let Some(host) = host.upgrade() {
        if !host.pool.wait() {
            return;
        }
        if let Err(error) = host.pool.add(&host) {
            tracing::warn!(%error, "the pool cannot make a sandbox ahead");
            host.pool.rest();
        }
    }
}
