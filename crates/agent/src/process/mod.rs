//! Processes of users: the `process.Process` service and what is behind it.
//!
//! [`command`] turns a request into a running child; from then on one task per process
//! ([`pump`]) owns its output, its time limit and its end. Clients come and go: each is a
//! subscription to the [`output`], and a process never depends on one. [`reaper`] learns of
//! exits, [`table`] finds processes again.

mod command;
mod exit;
mod input;
mod output;
mod pump;
pub mod reaper;
mod search;
mod service;
mod stream;
mod table;
mod terminal;

use std::{
    os::fd::OwnedFd,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Signal, pidfd_send_signal},
};
use soulbox_wire::process::ProcessConfig;
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use self::{input::Input, output::Fanout};
pub use self::{service::Service, table::Table};

/// How long whoever kills a process waits for its end; only one that the kernel holds takes longer.
const DYING: Duration = Duration::from_secs(1);

/// A child of the agent that a client asked for.
#[derive(Debug)]
struct Process {
    pid: i32,
    /// As the client sent it.
    config: ProcessConfig,
    tag: Option<String>,
    pidfd: OwnedFd,
    input: Input,
    output: Arc<Fanout>,
    /// Waited for; its pid may belong to somebody else by now.
    exited: AtomicBool,
    /// Told when a client or the time limit ends the process: its end no longer waits for
    /// whoever still holds its output open.
    ended_by_signal: Notify,
    /// Whether the table has it no more.
    forgotten: watch::Sender<bool>,
}

impl Process {
    /// Sends `signal` to this process alone, and stops waiting for its output.
    ///
    /// # Errors
    /// What the kernel reports. A process that has exited takes any signal.
    fn signal(&self, signal: Signal) -> rustix::io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {
                self.ended_by_signal.notify_one();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Whether it runs no more, as the kernel says: before [`Process::exited`], which waits for a task's turn.
    fn has_ended(&self) -> bool {
        let mut pidfd = [PollFd::new(&self.pidfd, PollFlags::IN)];
        poll(&mut pidfd, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
    }

    /// Kills it and waits for it to be gone from the table, so that who asks next does not find it.
    ///
    /// # Errors
    /// Those of [`Process::signal`].
    async fn kill(&self) -> rustix::io::Result<()> {
        self.signal(Signal::KILL)?;
        let _ = timeout(DYING, self.forgotten.subscribe().wait_for(|gone| *gone)).await;
        Ok(())
    }
}
