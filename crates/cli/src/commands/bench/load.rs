//! Work of others: threads that compute, one for each processor, while something is measured.

use std::{
    hint, iter,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use crate::failure::{Failure, Result};

/// The threads; they rest until they are told to work, and end with this.
#[derive(Debug)]
pub(super) struct Load {
    switch: Arc<Switch>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Switch {
    works: AtomicBool,
    ended: AtomicBool,
}

impl Load {
    pub(super) fn start() -> Result<Self> {
        let number = thread::available_parallelism().map_or(1, usize::from);
        let mut load = Self { switch: Arc::default(), threads: Vec::new() };
        for switch in iter::repeat_n(Arc::clone(&load.switch), number) {
            let thread = thread::Builder::new().name("load".into()).spawn(move || work(&switch));
            load.threads.push(thread.map_err(Failure::io("a thread for the load"))?);
        }
        Ok(load)
    }

    /// Until what is returned is dropped.
    pub(super) fn work(&self) -> Working<'_> {
        self.switch.works.store(true, Ordering::Release);
        self.threads.iter().for_each(|thread| thread.thread().unpark());
        Working(self)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.switch.ended.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// Keeps the processors busy.
#[derive(Debug)]
pub(super) struct Working<'a>(&'a Load);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.switch.works.store(false, Ordering::Release);
    }
}

fn work(switch: &Switch) {
    while !switch.ended.load(Ordering::Acquire) {
        if switch.works.load(Ordering::Acquire) {
            hint::spin_loop();
        } else {
            thread::park();
        }
    }
}
