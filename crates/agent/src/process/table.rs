//! Finding processes again: the living by pid or tag, the ended for a while.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait, waitpid};
use soulbox_sys::spawn::{Child, Failed};
use soulbox_wire::process::{
    __buffa::oneof::process_selector::Selector, ProcessInfo, ProcessSelector,
};
use tokio::{sync::oneshot, task::AbortHandle};

use super::{Process, exit::End, reaper::Scope};

/// How long the exit code of a process can be asked for.
const RETENTION: Duration = Duration::from_secs(30);
/// How many exit codes are kept at most.
const MAX_RETAINED: usize = 4096;

/// Every process that clients started.
#[derive(Debug, Default)]
pub struct Table(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    next_id: u64,
    /// In the order of their start.
    live: BTreeMap<u64, Entry>,
    /// Who is told when a child exits.
    exits: HashMap<i32, oneshot::Sender<ExitStatus>>,
    ended: VecDeque<Ended>,
}

#[derive(Debug)]
struct Entry {
    process: Arc<Process>,
    pump: Option<AbortHandle>,
}

#[derive(Debug)]
struct Ended {
    at: Instant,
    pid: i32,
    tag: Option<String>,
    end: End,
}

/// What a selector leads to.
#[derive(Debug)]
pub(super) enum Found {
    Live(Arc<Process>),
    Ended { pid: u32, end: End },
}

/// A registered process.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) id: u64,
    pub(super) process: Arc<Process>,
    pub(super) exit: oneshot::Receiver<ExitStatus>,
}

impl Table {
    /// Starts a child and registers it in one step: the reaper cannot come in between.
    ///
    /// # Errors
    /// Those of `spawn`.
    pub(super) fn start(
        &self,
        spawn: impl FnOnce() -> Result<Child, Failed>,
        process: impl FnOnce(Child) -> Process,
    ) -> Result<Started, Failed> {
        let mut inner = self.0.lock();
        let child = spawn()?;
        let pid = child.pid.as_raw_pid();
        let process = Arc::new(process(child));
        let (sender, exit) = oneshot::channel();
        inner.exits.insert(pid, sender);
        let tag = process.tag.as_deref();
        inner.ended.retain(|old| old.pid != pid && (tag.is_none() || old.tag.as_deref() != tag));
        let id = inner.next_id;
        inner.next_id += 1;
        inner.live.insert(id, Entry { process: Arc::clone(&process), pump: None });
        Ok(Started { id, process, exit })
    }

    /// Makes the table the owner of the task that follows the process.
    pub(super) fn set_pump(&self, id: u64, pump: AbortHandle) {
        if let Some(entry) = self.0.lock().live.get_mut(&id) {
            entry.pump = Some(pump);
        }
    }

    /// Forgets a process that ended, but keeps what it ended with for 30 s.
    pub(super) fn finish(&self, id: u64, end: End) {
        let mut inner = self.0.lock();
        let now = Instant::now();
        let Some(Entry { process, .. }) = inner.live.remove(&id) else { return };
        process.forgotten.send_replace(true);
        inner.ended.push_back(Ended { at: now, pid: process.pid, tag: process.tag.clone(), end });
        while inner.ended.len() > MAX_RETAINED
            || inner.ended.front().is_some_and(|oldest| now - oldest.at > RETENTION)
        {
            inner.ended.pop_front();
        }
    }

    /// The processes that have not exited.
    pub(super) fn list(&self) -> Vec<ProcessInfo> {
        let inner = self.0.lock();
        let live = inner.live.values().map(|entry| &entry.process);
        live.filter(|process| !process.exited.load(Ordering::Relaxed))
            .map(|process| ProcessInfo {
                config: process.config.clone().into(),
                pid: process.pid.cast_unsigned(),
                tag: process.tag.clone(),
                ..ProcessInfo::default()
            })
            .collect()
    }

    /// A living process before one that exited while others hold its output open, and that before
    /// one that ended in the last 30 s.
    pub(super) fn find(&self, selector: &Selector) -> Option<Found> {
        let fits = |pid: i32, tag: Option<&str>| match selector {
            Selector::Pid(wanted) => *wanted == pid.cast_unsigned(),
            Selector::Tag(wanted) => tag == Some(wanted.as_str()),
        };
        let inner = self.0.lock();
        let mut lingering = None;
        for Entry { process, .. } in inner.live.values() {
            if fits(process.pid, process.tag.as_deref()) {
                if !process.exited.load(Ordering::Relaxed) {
                    return Some(Found::Live(Arc::clone(process)));
                }
                lingering.get_or_insert(process);
            }
        }
        if let Some(process) = lingering {
            return Some(Found::Live(Arc::clone(process)));
        }
        let recent = |ended: &&Ended| ended.at.elapsed() <= RETENTION;
        inner
            .ended
            .iter()
            .rev()
            .filter(recent)
            .find(|ended| fits(ended.pid, ended.tag.as_deref()))
            .map(|ended| Found::Ended { pid: ended.pid.cast_unsigned(), end: ended.end.clone() })
    }

    /// Waits for children that have exited, without blocking, and tells whom it concerns.
    pub(super) fn reap(&self, scope: Scope) {
        let mut inner = self.0.lock();
        match scope {
            Scope::Everything => {
                while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                    inner.exited(pid.as_raw_pid(), status);
                }
            }
            Scope::Started => {
                let pids: Vec<i32> = inner.exits.keys().copied().collect();
                for pid in pids.into_iter().filter_map(Pid::from_raw) {
                    if let Ok(Some((pid, status))) = waitpid(Some(pid), WaitOptions::NOHANG) {
                        inner.exited(pid.as_raw_pid(), status);
                    }
                }
            }
        }
    }
}

impl Inner {
    fn exited(&mut self, pid: i32, status: WaitStatus) {
        let Some(sender) = self.exits.remove(&pid) else { return };
        let mut live = self.live.values().map(|entry| &entry.process);
        let exited =
            |process: &&Arc<Process>| process.pid == pid && !process.exited.load(Ordering::Relaxed);
        if let Some(process) = live.find(exited) {
            process.exited.store(true, Ordering::Relaxed);
        }
        // Nobody listens when the agent is shutting down.
        let _ = sender.send(ExitStatus::from_raw(status.as_raw()));
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        for entry in self.0.get_mut().live.values() {
            if let Some(pump) = &entry.pump {
                pump.abort();
            }
        }
    }
}

/// The text for a selector that leads nowhere.
pub(super) fn not_found(selector: &Selector) -> connectrpc::ConnectError {
    connectrpc::ConnectError::not_found(match selector {
        Selector::Pid(pid) => format!("process with pid {pid} not found"),
        Selector::Tag(tag) => format!("process with tag {tag} not found"),
    })
}

/// The selector of a request.
///
/// # Errors
/// `unimplemented` if it names neither pid nor tag.
pub(super) fn selector(
    selector: impl Into<Option<ProcessSelector>>,
) -> Result<Selector, connectrpc::ConnectError> {
    selector
        .into()
        .and_then(|selector| selector.selector)
        .ok_or_else(|| connectrpc::ConnectError::unimplemented("process selector not given"))
}
