//! The program that hands a namespace's outgoing connections to our sockets.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use crate::check;

// From `linux/bpf.h`.
const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const MAP_DELETE_ELEM: libc::c_long = 3;
const PROG_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;
const MAP_TYPE_LPM_TRIE: u32 = 11;
const MAP_TYPE_SOCKMAP: u32 = 15;
const NO_PREALLOC: u32 = 1;
const PROG_TYPE_SK_LOOKUP: u32 = 30;
const ATTACH_SK_LOOKUP: u32 = 36;
const CALL_MAP_LOOKUP_ELEM: i32 = 1;
const CALL_SK_RELEASE: i32 = 86;
const CALL_SK_ASSIGN: i32 = 124;

// Fields of `struct bpf_sk_lookup`.
const FAMILY: i16 = 8;
const PROTOCOL: i16 = 12;
const LOCAL_IP4: i16 = 40;
const LOCAL_IP6: i16 = 44;
const LOCAL_PORT: i16 = 60;

const DROP: i32 = 0;
const PASS: i32 = 1;

/// Runs one command of bpf(2).
fn bpf(command: libc::c_long, attributes: &[u8]) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads `attributes`, whose pointers the callers below keep alive.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), attributes.len()) })
}

fn open(command: libc::c_long, attributes: &[u8]) -> io::Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    // SAFETY: the kernel just opened it for us (close-on-exec, as it always does for bpf).
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// The fields of a command, one after the other in the machine's byte order.
#[derive(Default)]
struct Attributes(Vec<u8>);

impl Attributes {
    fn word(mut self, value: u32) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn long(mut self, value: u64) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn fd(self, fd: BorrowedFd<'_>) -> Self {
        self.word(fd.as_raw_fd() as u32)
    }
}

/// A map that holds `sockets` under 0, 1, …
pub(super) fn socket_map(sockets: &[BorrowedFd<'_>]) -> io::Result<OwnedFd> {
    let attributes =
        Attributes::default().word(MAP_TYPE_SOCKMAP).word(4).word(4).word(sockets.len() as u32);
    let map = open(MAP_CREATE, &attributes.word(0).0)?;
    for (key, socket) in sockets.iter().enumerate() {
        update(map.as_fd(), &(key as u32).to_ne_bytes(), socket.as_raw_fd() as u32)?;
    }
    Ok(map)
}

/// A map that finds the longest of its prefixes that a key begins with.
pub(super) fn prefix_map(key: u32, most: u32) -> io::Result<OwnedFd> {
    let attributes = Attributes::default().word(MAP_TYPE_LPM_TRIE).word(key).word(4).word(most);
    open(MAP_CREATE, &attributes.word(NO_PREALLOC).0)
}

/// `key` is as long as the keys of the map.
pub(super) fn update(map: BorrowedFd<'_>, key: &[u8], value: u32) -> io::Result<()> {
    let attributes = Attributes::default()
        .fd(map)
        .word(0)
        .long(key.as_ptr() as u64)
        .long(&raw const value as u64)
        .long(0);
    bpf(MAP_UPDATE_ELEM, &attributes.0).map(drop)
}

/// `key` is as long as the keys of the map.
pub(super) fn delete(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<()> {
    let attributes = Attributes::default().fd(map).word(0).long(key.as_ptr() as u64);
    bpf(MAP_DELETE_ELEM, &attributes.0).map(drop)
}

/// Loads the program for a namespace with these addresses.
pub(super) fn steering(
    sockets: BorrowedFd<'_>,
    doors: BorrowedFd<'_>,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
) -> io::Result<OwnedFd> {
    let program = assemble([sockets, doors], v4, v6)?;
    let license = c"GPL";
    let attributes = Attributes::default()
        .word(PROG_TYPE_SK_LOOKUP)
        .word((program.len() / 8) as u32)
        .long(program.as_ptr() as u64)
        .long(license.as_ptr() as u64)
        .word(0)
        .word(0)
        .long(0)
        .word(0)
        .word(0)
        .long(u64::from_ne_bytes(*b"soulbox\0"))
        .long(0)
        .word(0)
        .word(ATTACH_SK_LOOKUP);
    open(PROG_LOAD, &attributes.0)
}

/// Attaches the program to a namespace, for as long as the returned link is open.
pub(super) fn attach(program: BorrowedFd<'_>, netns: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let attributes = Attributes::default().fd(program).fd(netns).word(ATTACH_SK_LOOKUP).word(0);
    open(LINK_CREATE, &attributes.0)
}

#[derive(Clone, Copy, PartialEq)]
enum Label {
    V4,
    Steer,
    Udp,
    Dns,
    DoorV4,
    Door,
    Assign,
    Pass,
    Drop,
}

/// Instructions of which jumps may name a place that comes later.
#[derive(Default)]
struct Assembler {
    code: Vec<[u8; 8]>,
    jumps: Vec<(usize, Label)>,
    labels: Vec<(Label, usize)>,
}

impl Assembler {
    fn emit(&mut self, opcode: u8, dst: u8, src: u8, offset: i16, immediate: i32) {
        let [o0, o1] = offset.to_ne_bytes();
        let [i0, i1, i2, i3] = immediate.to_ne_bytes();
        self.code.push([opcode, dst | src << 4, o0, o1, i0, i1, i2, i3]);
    }

    /// `dst = *(u32 *)(src + offset)`
    fn load(&mut self, dst: u8, src: u8, offset: i16) {
        self.emit(0x61, dst, src, offset, 0);
    }

    /// `dst = src`
    fn copy(&mut self, dst: u8, src: u8) {
        self.emit(0xbf, dst, src, 0, 0);
    }

    /// `dst = immediate`
    fn set(&mut self, dst: u8, immediate: i32) {
        self.emit(0xb7, dst, 0, 0, immediate);
    }

    /// `if ((u32)dst == immediate) goto label`
    fn equal(&mut self, dst: u8, immediate: i32, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.emit(0x16, dst, 0, 0, immediate);
    }

    /// `if ((u32)dst != immediate) goto label`
    fn different(&mut self, dst: u8, immediate: i32, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.emit(0x56, dst, 0, 0, immediate);
    }

    fn goto(&mut self, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.emit(0x05, 0, 0, 0, 0);
    }

    /// `*(u32 *)(r10 + offset) = src`
    fn store(&mut self, src: u8, offset: i16) {
        self.emit(0x63, 10, src, offset, 0);
    }

    /// `r0` = what `map` has under the key that `r2` points to; drops if there is nothing.
    fn find(&mut self, map: BorrowedFd<'_>) {
        // r1 = the map: a 64-bit immediate in two parts, marked as a descriptor.
        self.emit(0x18, 1, 1, 0, map.as_raw_fd());
        self.emit(0, 0, 0, 0, 0);
        self.call(CALL_MAP_LOOKUP_ELEM);
        // if (r0 == 0) goto drop, in 64 bits: it is a pointer.
        self.jumps.push((self.code.len(), Label::Drop));
        self.emit(0x15, 0, 0, 0, 0);
    }

    fn call(&mut self, function: i32) {
        self.emit(0x85, 0, 0, 0, function);
    }

    fn exit(&mut self, verdict: i32) {
        self.set(0, verdict);
        self.emit(0x95, 0, 0, 0, 0);
    }

    fn label(&mut self, label: Label) {
        self.labels.push((label, self.code.len()));
    }

    fn finish(mut self) -> io::Result<Vec<u8>> {
        for (at, label) in &self.jumps {
            let target = self.labels.iter().find(|(name, _)| name == label);
            let offset = target
                .and_then(|(_, target)| i16::try_from(*target as i64 - *at as i64 - 1).ok())
                .ok_or(io::ErrorKind::InvalidInput)?;
            let [o0, o1] = offset.to_ne_bytes();
            self.code[*at][2..4].copy_from_slice(&[o0, o1]);
        }
        Ok(self.code.concat())
    }
}

/// Words of an address as a 32-bit load finds them.
fn words<const N: usize>(octets: &[u8]) -> [i32; N] {
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(octets.chunks_exact(4)) {
        *word = i32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    words
}

/// Drops what there is no door for; the port is in `r2`, the context in `r6`.
fn door(a: &mut Assembler, doors: BorrowedFd<'_>) {
    // The key, see `doors`: from here on the stack, the address in its last 16 bytes.
    const KEY: i16 = -8 - super::doors::KEY as i16;
    a.store(2, KEY + 4);
    a.set(2, (super::doors::KEY as i32 - 4) * 8);
    a.store(2, KEY);
    a.load(2, 6, FAMILY);
    a.equal(2, libc::AF_INET, Label::DoorV4);
    for word in 0..4_i16 {
        a.load(2, 6, LOCAL_IP6 + 4 * word);
        a.store(2, KEY + 8 + 4 * word);
    }
    a.goto(Label::Door);

    a.label(Label::DoorV4);
    let mapped: [i32; 4] = words(&Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().octets());
    for (word, value) in (0..3_i16).zip(mapped) {
        a.set(2, value);
        a.store(2, KEY + 8 + 4 * word);
    }
    a.load(2, 6, LOCAL_IP4);
    a.store(2, KEY + 20);

    a.label(Label::Door);
    a.copy(2, 10);
    a.emit(0x07, 2, 0, 0, i32::from(KEY));
    a.find(doors);
}

fn assemble(
    [sockets, doors]: [BorrowedFd<'_>; 2],
    v4: Ipv4Addr,
    v6: Ipv6Addr,
) -> io::Result<Vec<u8>> {
    let mut a = Assembler::default();
    a.copy(6, 1);
    a.load(2, 6, FAMILY);
    a.equal(2, libc::AF_INET, Label::V4);

    let own: [i32; 4] = words(&v6.octets());
    let loopback: [i32; 4] = words(&Ipv6Addr::LOCALHOST.octets());
    for register in 0..4_u8 {
        a.load(2 + register, 6, LOCAL_IP6 + 4 * i16::from(register));
    }
    for address in [own, loopback] {
        // A chain of comparisons; the last one decides.
        let skip = a.code.len() + 4;
        for (register, word) in address.iter().enumerate().take(3) {
            let offset = (skip - a.code.len() - 1) as i16;
            a.emit(0x56, 2 + register as u8, 0, offset, *word);
        }
        a.equal(5, address[3], Label::Pass);
    }
    a.goto(Label::Steer);

    a.label(Label::V4);
    let [own] = words(&v4.octets());
    a.load(2, 6, LOCAL_IP4);
    a.equal(2, own, Label::Pass);
    // The first byte of an address in network order is the lowest of a little-endian word.
    a.emit(0x57, 2, 0, 0, 0xff);
    a.equal(2, 127, Label::Pass);

    a.label(Label::Steer);
    a.set(7, 0);
    a.load(2, 6, PROTOCOL);
    a.equal(2, libc::IPPROTO_TCP, Label::Assign);
    a.equal(2, libc::IPPROTO_UDP, Label::Udp);
    a.goto(Label::Drop);

    a.label(Label::Udp);
    a.load(2, 6, LOCAL_PORT);
    a.equal(2, i32::from(super::DNS_PORT), Label::Dns);
    door(&mut a, doors);
    a.set(7, 2);
    a.goto(Label::Assign);

    a.label(Label::Dns);
    a.set(7, 1);

    a.label(Label::Assign);
    a.store(7, -4);
    a.copy(2, 10);
    a.emit(0x07, 2, 0, 0, -4);
    a.find(sockets);
    a.copy(7, 0);
    a.copy(1, 6);
    a.copy(2, 7);
    a.set(3, 0);
    a.call(CALL_SK_ASSIGN);
    a.copy(8, 0);
    a.copy(1, 7);
    a.call(CALL_SK_RELEASE);
    a.different(8, 0, Label::Drop);

    a.label(Label::Pass);
    a.exit(PASS);
    a.label(Label::Drop);
    a.exit(DROP);
    a.finish()
}
