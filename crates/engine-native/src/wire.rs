//! The way out of a sandbox: made with its namespaces, handed over once, made anew after a restart.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use parking_lot::Mutex;
use soulbox_engine::{Relay, Wire};
use soulbox_sys::outward::{self, Outward};

/// The host's ends until somebody takes them.
#[derive(Debug, Default)]
pub(crate) struct Ends(Mutex<Option<Outward>>);

impl Ends {
    /// Makes them, if they are not there. A kernel that cannot is told of when the ends are asked for: a
    /// sandbox without a way out is a safe one.
    pub(crate) fn make(&self, home: &OwnedFd, netns: &OwnedFd) {
        let mut ends = self.0.lock();
        if ends.is_some() {
            return;
        }
        match outward::open(home.as_fd(), netns.as_fd()) {
            Ok(made) => *ends = Some(made),
            Err(error) => tracing::debug!(%error, "no way out of a sandbox could be made ahead"),
        }
    }

    /// The ends, if they were made ahead and nobody took them.
    pub(crate) fn ready(&self) -> Option<Wire> {
        self.0.lock().take().map(wire)
    }

    /// The ends, which are made now if there are none: after a restart, or where it failed before.
    pub(crate) fn take(&self, home: &OwnedFd, netns: &OwnedFd) -> io::Result<Wire> {
        if let Some(wire) = self.ready() {
            return Ok(wire);
        }
        outward::open(home.as_fd(), netns.as_fd()).map(wire)
    }
}

fn wire(Outward { tcp, udp, relay, steering }: Outward) -> Wire {
    let outward::Relay { socket, answers, doors } = relay;
    Wire { tcp, udp, relay: Relay { socket, answers, doors }, steering }
}
