//! The system call filter of a sandbox.
//!
//! An allow-list: [`ALLOWED`] names what may be called, [`REFUSED`] what may not and why; what is in
//! neither answers `ENOSYS`, as a kernel without it would, so that libraries fall back. Five
//! calls are looked at more closely ([`CLONE`], [`SOCKET`], [`SOCKETPAIR`], [`IOCTL`], [`PERSONALITY`]).
//! Entry points for other ABIs (ia32, x32) are closed.
//!
//! The list becomes ranges of numbers and those a binary search in BPF: about 8 comparisons
//! for any call, and the kernel caches the calls that are always allowed (`seccomp(2)`).

use std::io;

use crate::check;

mod table;
pub use table::{ALLOWED, CLONE, IOCTL, NEWEST, PERSONALITY, REFUSED, Refusal, SOCKET, SOCKETPAIR};

/// A compiled filter.
#[derive(Debug, Clone)]
pub struct Filter(Vec<libc::sock_filter>);

const NR: u32 = 0;
const ARCH: u32 = 4;
/// Low half of argument `n`; the kernel ignores the high half of all arguments looked at here.
const fn arg(n: u32) -> u32 {
    16 + 8 * n
}

const AUDIT_ARCH_X86_64: u32 = 0xC000_003E;
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const fn errno(code: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | code as u32
}

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
const JUMP_EQ: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const JUMP_GE: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const JUMP_SET: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;

fn op(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// What to answer for a range of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Return(u32),
    CheckClone,
    CheckSocket,
    CheckIoctl,
    CheckPersonality,
}

fn verdict(number: u32) -> Verdict {
    let number = libc::c_long::from(number);
    match number {
        CLONE => Verdict::CheckClone,
        SOCKET | SOCKETPAIR => Verdict::CheckSocket,
        IOCTL => Verdict::CheckIoctl,
        PERSONALITY => Verdict::CheckPersonality,
        _ if ALLOWED.contains(&number) => Verdict::Return(ALLOW),
        _ => Verdict::Return(errno(refused(number).unwrap_or(libc::ENOSYS))),
    }
}

fn refused(number: libc::c_long) -> Option<libc::c_int> {
    let refusal = REFUSED.iter().find(|refusal| refusal.calls.contains(&number));
    refusal.map(|refusal| refusal.answer)
}

impl Filter {
    /// The filter of every sandbox.
    pub fn sandbox() -> Self {
        let mut starts: Vec<(u32, Verdict)> = Vec::new();
        for number in 0..=(NEWEST as u32 + 1) {
            let verdict = verdict(number);
            if starts.last().is_none_or(|(_, last)| *last != verdict) {
                starts.push((number, verdict));
            }
        }
        let mut program = vec![
            op(LOAD, ARCH, 0, 0),
            op(JUMP_EQ, AUDIT_ARCH_X86_64, 1, 0),
            op(RETURN, errno(libc::ENOSYS), 0, 0),
            // x32 numbers have bit 30 set and so fall into the last range: ENOSYS.
            op(LOAD, NR, 0, 0),
        ];
        program.extend(search(&starts));
        Self(program)
    }

    /// Installs the filter for this thread and all that it starts. Needs `CAP_SYS_ADMIN` in the
    /// caller's user namespace, and leaves `no_new_privs` unset so that `sudo` works.
    ///
    /// # Errors
    /// What `seccomp(2)` reports.
    pub fn install(&self) -> io::Result<()> {
        let program = libc::sock_fprog {
            len: self.0.len() as libc::c_ushort,
            filter: self.0.as_ptr().cast_mut(),
        };
        // SAFETY: the program lives through the call; the kernel copies and checks it.
        check(unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &program)
        })?;
        Ok(())
    }
}

/// A balanced tree over the sorted starts of ranges.
fn search(ranges: &[(u32, Verdict)]) -> Vec<libc::sock_filter> {
    if let [(_, verdict)] = ranges {
        return leaf(*verdict);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let (low, upper) = (search(low), search(high));
    let pivot = high.first().map_or(0, |(start, _)| *start);
    // Jump offsets have 8 bits: a far upper half is reached through an unconditional jump.
    let mut program = match u8::try_from(low.len()) {
        Ok(distance) => vec![op(JUMP_GE, pivot, distance, 0)],
        Err(_) => {
            vec![op(JUMP_GE, pivot, 0, 1), op(libc::BPF_JMP | libc::BPF_JA, low.len() as u32, 0, 0)]
        }
    };
    program.extend(low);
    program.extend(upper);
    program
}

fn leaf(verdict: Verdict) -> Vec<libc::sock_filter> {
    let denied = op(RETURN, errno(libc::EPERM), 0, 0);
    let allowed = op(RETURN, ALLOW, 0, 0);
    match verdict {
        Verdict::Return(value) => vec![op(RETURN, value, 0, 0)],
        // No new namespaces of any kind.
        Verdict::CheckClone => {
            const NAMESPACES: i32 = libc::CLONE_NEWNS
                | libc::CLONE_NEWCGROUP
                | libc::CLONE_NEWUTS
                | libc::CLONE_NEWIPC
                | libc::CLONE_NEWUSER
                | libc::CLONE_NEWPID
                | libc::CLONE_NEWNET;
            vec![op(LOAD, arg(0), 0, 0), op(JUMP_SET, NAMESPACES as u32, 0, 1), denied, allowed]
        }
        // UNIX, IPv4, IPv6, and netlink for routes and socket lists. Of the internet protocols
        // those alone that everybody uses: SMC, MPTCP, SCTP and the like are reached through
        // AF_INET as well, and asking for them makes the kernel load their modules.
        Verdict::CheckSocket => {
            const KIND: u32 = 0xf;
            vec![
                op(LOAD, arg(0), 0, 0),
                op(JUMP_EQ, libc::AF_UNIX as u32, 16, 0),
                op(JUMP_EQ, libc::AF_INET as u32, 5, 0),
                op(JUMP_EQ, libc::AF_INET6 as u32, 4, 0),
                op(JUMP_EQ, libc::AF_NETLINK as u32, 0, 14),
                op(LOAD, arg(2), 0, 0),
                op(JUMP_EQ, libc::NETLINK_ROUTE as u32, 11, 0),
                op(JUMP_EQ, libc::NETLINK_SOCK_DIAG as u32, 10, 11),
                op(LOAD, arg(1), 0, 0),
                op(AND, KIND, 0, 0),
                // A raw socket takes any number as that of its packets, and loads nothing.
                op(JUMP_EQ, libc::SOCK_RAW as u32, 7, 0),
                op(LOAD, arg(2), 0, 0),
                op(JUMP_EQ, libc::IPPROTO_IP as u32, 5, 0),
                op(JUMP_EQ, libc::IPPROTO_ICMP as u32, 4, 0),
                op(JUMP_EQ, libc::IPPROTO_TCP as u32, 3, 0),
                op(JUMP_EQ, libc::IPPROTO_UDP as u32, 2, 0),
                op(JUMP_EQ, libc::IPPROTO_ICMPV6 as u32, 1, 0),
                op(RETURN, errno(libc::EPROTONOSUPPORT), 0, 0),
                allowed,
                op(RETURN, errno(libc::EAFNOSUPPORT), 0, 0),
            ]
        }
        // No typing into another session's terminal.
        Verdict::CheckIoctl => {
            const TIOCLINUX: u32 = 0x541C;
            vec![
                op(LOAD, arg(1), 0, 0),
                op(JUMP_EQ, libc::TIOCSTI as u32, 1, 0),
                op(JUMP_EQ, TIOCLINUX, 0, 1),
                denied,
                allowed,
            ]
        }
        // Linux and its 32-bit look, with and without address randomisation; the query.
        Verdict::CheckPersonality => vec![
            op(LOAD, arg(0), 0, 0),
            op(JUMP_EQ, u32::MAX, 1, 0),
            op(JUMP_SET, !0x0006_0008, 1, 0),
            allowed,
            denied,
        ],
    }
}

#[cfg(test)]
mod tests;
