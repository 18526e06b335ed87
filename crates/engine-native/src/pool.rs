//! Blank sandboxes made ahead, so that a create only has to bind one to its root.
//!
//! One thread keeps the pool full. It stands back while sandboxes are being created, since it would
//! compete with them for processors; an empty pool only means that a create makes its own blank.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

use crate::{Host, start::Blank};

/// How long the pool stands back for creations under way before it makes one all the same.
const STAND_BACK: Duration = Duration::from_millis(4);
/// How long it rests when no blank can be made.
const REST: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Pool {
    target: usize,
    state: Mutex<State>,
    changed: Condvar,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<Blank>,
    creating: usize,
    closed: bool,
}

/// Counts a creation under way.
#[derive(Debug)]
pub(crate) struct Creating<'a>(&'a Pool);

impl Drop for Creating<'_> {
    fn drop(&mut self) {
        self.0.state.lock().creating -= 1;
        self.0.changed.notify_one();
    }
}

impl Pool {
    pub(crate) fn new(target: usize) -> Self {
        Self { target, state: Mutex::default(), changed: Condvar::new(), thread: Mutex::default() }
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

    /// A blank that still waits, if there is one.
    pub(crate) fn take(&self, host: &Host) -> Option<Blank> {
        loop {
            let mut blank = self.state.lock().ready.pop_front()?;
            if blank.is_waiting() {
                return Some(blank);
            }
            host.undertaker.bury(blank.remains.take());
        }
    }

    /// Ends the filling and gives up what is in the pool.
    pub(crate) fn close(&self, host: &Host) {
        self.state.lock().closed = true;
        self.changed.notify_all();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
        for mut blank in self.state.lock().ready.drain(..) {
            host.undertaker.bury(blank.remains.take());
        }
    }

    /// Waits for something to do; `false` when the pool is closed.
    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return false;
            }
            if state.ready.len() < self.target {
                let stood_back = state.creating > 0
                    && !self.changed.wait_for(&mut state, STAND_BACK).timed_out();
                if !stood_back {
                    return !state.closed;
                }
            } else {
                self.changed.wait(&mut state);
            }
        }
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
        match host.blank() {
            Ok(blank) => host.pool.state.lock().ready.push_back(blank),
            Err(error) => {
                tracing::warn!(%error, "the pool cannot make a blank sandbox");
                host.pool.rest();
            }
        }
    }
}
