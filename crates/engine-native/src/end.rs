//! The last stage: whatever is left of a sandbox goes away, in the background and a little at a time.
//!
//! One thread does it, one sandbox after the other: destroying many network namespaces at once
//! would stall the creation of new ones in the kernel.

use std::{
    collections::{HashSet, VecDeque},
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Signal, pidfd_send_signal},
};
use soulbox_faults::point;
use soulbox_model::SandboxId;
use soulbox_sys::init;

use crate::{Host, fixtures::Fixtures, layer, slots::Slot, start::Side};

/// What a sandbox, or a half-made one, still holds.
#[derive(Debug, Default)]
pub(crate) struct Remains {
    pub(crate) process: Option<OwnedFd>,
    pub(crate) slot: Option<Slot>,
    pub(crate) group: bool,
    /// Its writable layer and sockets go by this name.
    pub(crate) id: Option<SandboxId>,
    pub(crate) netns: Option<Arc<OwnedFd>>,
}

impl Remains {
    pub(crate) fn new(slot: Slot) -> Self {
        Self { slot: Some(slot), ..Self::default() }
    }

    pub(crate) fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}

/// Remains that are buried if their owner does not take them back, even one that never goes on.
#[derive(Debug)]
pub(crate) struct Ward<'a> {
    undertaker: &'a Undertaker,
    remains: Option<Remains>,
}

impl Ward<'_> {
    pub(crate) fn take(mut self) -> Remains {
        self.remains.take().unwrap_or_default()
    }
}

impl Drop for Ward<'_> {
    fn drop(&mut self) {
        if let Some(remains) = self.remains.take() {
            self.undertaker.bury(remains);
        }
    }
}

/// How long to wait before trying again what was still busy.
const RETRY: Duration = Duration::from_millis(20);
/// How often to try before complaining.
const PATIENCE: u32 = 250;
/// How often to try what still fails after that.
const LATE_RETRY: Duration = Duration::from_secs(1);

/// Hands remains to the thread that removes them.
#[derive(Debug)]
pub(crate) struct Undertaker {
    queue: parking_lot::Mutex<Option<Sender<Remains>>>,
    thread: parking_lot::Mutex<Option<thread::JoinHandle<()>>>,
}

impl Undertaker {
    pub(crate) fn new() -> (Self, Receiver<Remains>) {
        let (queue, orders) = channel();
        (Self { queue: Some(queue).into(), thread: None.into() }, orders)
    }

    pub(crate) fn start(&self, host: Arc<Host>, orders: Receiver<Remains>) -> io::Result<()> {
        let thread =
            thread::Builder::new().name("undertaker".into()).spawn(move || work(&host, &orders))?;
        *self.thread.lock() = Some(thread);
        Ok(())
    }

    pub(crate) fn bury(&self, remains: Remains) {
        // After `finish` nobody is left to do it; the next start will.
        if let Some(queue) = &*self.queue.lock() {
            let _ = queue.send(remains);
        }
    }

    pub(crate) fn ward(&self, remains: Remains) -> Ward<'_> {
        Ward { undertaker: self, remains: Some(remains) }
    }

    /// Waits until everything handed over so far is gone.
    pub(crate) fn finish(&self) {
        drop(self.queue.lock().take());
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

fn work(host: &Host, orders: &Receiver<Remains>) {
    let mut busy: VecDeque<(Remains, u32)> = VecDeque::new();
    let mut late: VecDeque<Remains> = VecDeque::new();
    let mut tried = Instant::now();
    loop {
        let order = match (busy.is_empty(), late.is_empty()) {
            (true, true) => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
            (true, false) => orders.recv_timeout(LATE_RETRY),
            (false, _) => orders.recv_timeout(RETRY),
        };
        match order {
            Ok(remains) => busy.push_back((remains, 0)),
            // What is late is left to the next start.
            Err(RecvTimeoutError::Disconnected) if busy.is_empty() => return,
            Err(RecvTimeoutError::Disconnected) => thread::sleep(RETRY),
            Err(RecvTimeoutError::Timeout) => {}
        }
        for _ in 0..busy.len() {
            let Some((mut remains, tries)) = busy.pop_front() else { break };
            match remove(host, &mut remains) {
                Ok(()) => {}
                Err(error) if tries < PATIENCE => {
                    tracing::trace!(%error, "sandbox still busy");
                    busy.push_back((remains, tries + 1));
                }
                // The slot stays taken, so nothing can be mixed up.
                Err(error) => {
                    tracing::error!(%error, ?remains, "cannot remove a sandbox's remains yet");
                    late.push_back(remains);
                }
            }
        }
        if tried.elapsed() >= LATE_RETRY {
            late.retain_mut(|remains| remove(host, remains).is_err());
            tried = Instant::now();
        }
    }
}

/// Removes what can be removed now; what is gone is struck from `remains`.
fn remove(host: &Host, remains: &mut Remains) -> io::Result<()> {
    if let Some(process) = &remains.process {
        kill(process);
        if !wait(process, Duration::from_secs(2))? {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        init::try_reap(process.as_fd());
        remains.process = None;
        point("bury.process");
    }
    remains.netns = None;
    if let Some(slot) = remains.slot.as_ref().filter(|_| remains.group) {
        host.cgroups.remove(&slot.group())?;
        remains.group = false;
        point("bury.group");
    }
    if let Some(id) = &remains.id {
        for side in [Side::Client, Side::Control] {
            let _ = rustix::fs::unlinkat(
                &host.fixtures.sockets,
                side.file(id),
                rustix::fs::AtFlags::empty(),
            );
        }
        point("bury.sockets");
        host.layers.delete(id)?;
        remains.id = None;
        point("bury.layer");
    }
    if let Some(slot) = remains.slot.take() {
        host.slots.release(slot);
    }
    Ok(())
}

/// PID 1 of a pid namespace takes every process in it along.
pub(crate) fn kill(process: &OwnedFd) {
    let _ = pidfd_send_signal(process, Signal::KILL);
}

pub(crate) fn is_running(process: &OwnedFd) -> bool {
    wait(process, Duration::ZERO).is_ok_and(|ended| !ended)
}

/// Whether the process ended within `limit`.
fn wait(process: &OwnedFd, limit: Duration) -> io::Result<bool> {
    let timeout = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: 0 };
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    match poll(&mut fds, Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl Host {
    /// Removes groups, layers and sockets that belong to no sandbox in `keep`. Returns how many
    /// sandboxes they were of.
    pub(crate) fn sweep(&self, keep: &HashSet<SandboxId>) -> io::Result<usize> {
        let mut swept = 0;
        for name in self.cgroups.names()? {
            let used = name.parse().is_ok_and(|number| self.slots.is_used(number));
            if !used {
                self.remove_group(&name)?;
                swept += 1;
            }
        }
        point("sweep.groups");
        for id in self.layers.ids()?.into_iter().filter(|id| !keep.contains(id)) {
            match self.layers.delete(&id) {
                // A full disk makes it so; who lives on it goes on, and a later start removes the rest.
                Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                    tracing::warn!(sandbox = %id, %error, "a layer stays");
                }
                deleted => deleted?,
            }
        }
        point("sweep.layers");
        for entry in rustix::fs::Dir::read_from(&self.fixtures.sockets)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy();
            let id = name.split('.').next().and_then(|id| id.parse().ok());
            if id.is_some_and(|id: SandboxId| !keep.contains(&id)) {
                rustix::fs::unlinkat(
                    &self.fixtures.sockets,
                    entry.file_name(),
                    rustix::fs::AtFlags::empty(),
                )?;
            }
        }
        Ok(swept)
    }

    fn remove_group(&self, name: &str) -> io::Result<()> {
        let mut result = Ok(());
        for _ in 0..PATIENCE {
            let _ = self.cgroups.kill(name);
            result = self.cgroups.remove(name);
            match &result {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => thread::sleep(RETRY),
                _ => break,
            }
        }
        result
    }

    /// Takes down the mounts and empty cgroups of a server that has no sandboxes left.
    pub(crate) fn leave(&self) {
        Fixtures::leave(&self.data_dir);
        layer::close(&self.data_dir);
        self.cgroups.close();
    }
}
