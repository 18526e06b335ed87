//! What the first command will need, looked up before there is one.
//!
//! A fresh root file system knows none of its files: each name is looked up, and each file found in
//! its layer, when it is used first. While a sandbox waits to be started that costs nobody time.
//! Files are opened and nothing more: no program of the template runs.

use std::{
    fs::File,
    os::{fd::AsFd, unix::fs::OpenOptionsExt, unix::net::UnixStream},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::OFlags,
};

/// What a login shell and most programs open.
const FILES: &[&str] = &[
    "/etc/passwd",
    "/etc/group",
    "/etc/shadow",
    "/etc/nsswitch.conf",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/profile",
    "/etc/bash.bashrc",
    "/etc/profile.d",
    "/root/.profile",
    "/root/.bashrc",
    "/home/user",
    "/home/user/.profile",
    "/home/user/.bashrc",
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/lib/x86_64-linux-gnu/libm.so.6",
    "/lib/x86_64-linux-gnu/libz.so.1",
    "/lib/x86_64-linux-gnu/libexpat.so.1",
    "/lib/x86_64-linux-gnu/libtinfo.so.6",
    "/lib/x86_64-linux-gnu/libselinux.so.1",
    "/lib/x86_64-linux-gnu/libpcre2-8.so.0",
    "/bin/sh",
    "/bin/bash",
    "/bin/true",
    "/bin/ls",
    "/bin/cat",
    "/usr/bin/env",
    "/usr/bin/id",
    "/usr/bin/python3",
    "/usr/local/bin",
    "/usr/lib/locale/C.utf8/LC_CTYPE",
];

/// Opens files until the engine has something to say.
pub fn while_idle(socket: &UnixStream) {
    for path in FILES {
        if is_spoken_to(socket) {
            return;
        }
        // Never waits and is never led elsewhere than a command would be: this is inside.
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC).bits() as i32;
        let _ = File::options().read(true).custom_flags(flags).open(path);
    }
}

fn is_spoken_to(socket: &UnixStream) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}
