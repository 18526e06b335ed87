use super::*;

/// Runs the program as the kernel would.
fn run(filter: &Filter, arch: u32, nr: u32, args: [u32; 3]) -> u32 {
    let (mut pc, mut acc) = (0usize, 0u32);
    loop {
        let i = filter.0[pc];
        pc += 1;
        match u32::from(i.code) {
            LOAD => {
                acc = match i.k {
                    NR => nr,
                    ARCH => arch,
                    k => args[((k - 16) / 8) as usize],
                }
            }
            AND => acc &= i.k,
            RETURN => return i.k,
            JUMP_EQ => pc += usize::from(if acc == i.k { i.jt } else { i.jf }),
            JUMP_GE => pc += usize::from(if acc >= i.k { i.jt } else { i.jf }),
            JUMP_SET => pc += usize::from(if acc & i.k != 0 { i.jt } else { i.jf }),
            _ => pc += i.k as usize,
        }
    }
}

fn call(nr: libc::c_long, args: [u32; 3]) -> u32 {
    run(&Filter::sandbox(), AUDIT_ARCH_X86_64, nr as u32, args)
}

#[test]
fn every_number_gets_the_answer_of_the_table() {
    let filter = Filter::sandbox();
    for nr in 0..1024 {
        let got = run(&filter, AUDIT_ARCH_X86_64, nr, [0, 0, 0]);
        if let Verdict::Return(want) = verdict(nr) {
            assert_eq!(got, want, "syscall {nr}");
        }
    }
}

#[test]
fn other_abis_are_closed() {
    let enosys = errno(libc::ENOSYS);
    const AUDIT_ARCH_I386: u32 = 0x4000_0003;
    assert_eq!(run(&Filter::sandbox(), AUDIT_ARCH_I386, 4, [0; 3]), enosys);
    assert_eq!(call(0x4000_0001, [0; 3]), enosys);
}

#[test]
fn arguments_decide_where_they_must() {
    let (eperm, eaf) = (errno(libc::EPERM), errno(libc::EAFNOSUPPORT));
    assert_eq!(call(CLONE, [libc::SIGCHLD as u32, 0, 0]), ALLOW);
    assert_eq!(call(CLONE, [libc::CLONE_NEWUSER as u32, 0, 0]), eperm);
    assert_eq!(call(SOCKET, [libc::AF_UNIX as u32, 1, 0]), ALLOW);
    assert_eq!(call(SOCKET, [libc::AF_INET as u32, 1, 0]), ALLOW);
    assert_eq!(call(SOCKET, [libc::AF_INET6 as u32, 1, 0]), ALLOW);
    assert_eq!(call(SOCKET, [libc::AF_NETLINK as u32, 3, 0]), ALLOW);
    assert_eq!(call(SOCKET, [libc::AF_NETLINK as u32, 3, 12]), eaf);
    let stream = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    for family in [libc::AF_INET, libc::AF_INET6] {
        for protocol in [0, 1, libc::IPPROTO_TCP, libc::IPPROTO_UDP, libc::IPPROTO_ICMPV6] {
            assert_eq!(call(SOCKET, [family as u32, stream as u32, protocol as u32]), ALLOW);
        }
        // DCCP, L2TP, SCTP, SMC, MPTCP.
        for protocol in [33, 115, 132, 256, 262] {
            let got = call(SOCKET, [family as u32, stream as u32, protocol]);
            assert_eq!(got, errno(libc::EPROTONOSUPPORT), "protocol {protocol}");
            assert_eq!(call(SOCKET, [family as u32, libc::SOCK_RAW as u32, protocol]), ALLOW);
        }
    }
    assert_eq!(call(SOCKETPAIR, [libc::AF_UNIX as u32, 1, 0]), ALLOW);
    assert_eq!(call(SOCKETPAIR, [libc::AF_TIPC as u32, 1, 0]), eaf);
    for family in [libc::AF_ALG, libc::AF_PACKET, libc::AF_VSOCK, libc::AF_XDP, libc::AF_KEY] {
        assert_eq!(call(SOCKET, [family as u32, 1, 0]), eaf, "family {family}");
    }
    assert_eq!(call(IOCTL, [0, libc::TIOCSTI as u32, 0]), eperm);
    assert_eq!(call(IOCTL, [0, libc::TIOCGWINSZ as u32, 0]), ALLOW);
    assert_eq!(call(PERSONALITY, [u32::MAX, 0, 0]), ALLOW);
    assert_eq!(call(PERSONALITY, [0x0040_0000, 0, 0]), eperm);
    assert_eq!(call(PERSONALITY, [0, 0, 0]), ALLOW);
}

#[test]
fn what_must_never_be_allowed_is_not() {
    for nr in [
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_io_uring_setup,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_fsopen,
        libc::SYS_open_tree,
        libc::SYS_move_mount,
        libc::SYS_mount_setattr,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_pivot_root,
        libc::SYS_kexec_load,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_open_by_handle_at,
        libc::SYS_reboot,
        libc::SYS_swapon,
        libc::SYS_quotactl,
        libc::SYS_io_setup,
    ] {
        assert_ne!(call(nr, [0; 3]), ALLOW, "syscall {nr}");
    }
}

const CHECKED: [libc::c_long; 5] = [CLONE, SOCKET, SOCKETPAIR, IOCTL, PERSONALITY];

/// How often the table decides a call.
fn decisions(number: libc::c_long) -> usize {
    let lists = [ALLOWED, &CHECKED].into_iter().chain(REFUSED.iter().map(|refusal| refusal.calls));
    lists.map(|calls| calls.iter().filter(|call| **call == number).count()).sum()
}

/// Numbers that Linux gives to no call of this architecture.
fn is_gap(number: libc::c_long) -> bool {
    (337..=423).contains(&number)
}

#[test]
fn every_call_is_decided_once() {
    for number in 0..=NEWEST {
        assert_eq!(decisions(number), usize::from(!is_gap(number)), "system call {number}");
    }
    let beyond = |calls: &[libc::c_long]| calls.iter().any(|call| !(0..=NEWEST).contains(call));
    assert!(!beyond(ALLOWED) && !REFUSED.iter().any(|refusal| beyond(refusal.calls)));
    assert!(REFUSED.iter().all(|refusal| !refusal.why.is_empty()));
}

#[test]
fn the_numbers_of_the_kernels_headers_are_decided() {
    let header = std::fs::read_to_string("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
        .or_else(|_| std::fs::read_to_string("/usr/include/asm/unistd_64.h"))
        .expect("the headers of the kernel, which come with a C compiler");
    let numbers: Vec<(&str, libc::c_long)> = header
        .lines()
        .filter_map(|line| line.strip_prefix("#define __NR_")?.split_once(' '))
        .filter_map(|(name, number)| Some((name, number.trim().parse().ok()?)))
        .collect();
    assert!(numbers.len() > 300, "{} numbers", numbers.len());
    for (name, number) in numbers {
        assert_eq!(decisions(number), 1, "{name}, number {number}: decide it in table.rs");
    }
}

#[test]
fn the_running_kernel_has_no_call_that_the_table_does_not_know() {
    for number in NEWEST + 1..NEWEST + 64 {
        // SAFETY: no call takes -1 for a pointer or a descriptor: it fails, or there is none.
        let result = unsafe { libc::syscall(number, -1, -1, -1, -1, -1, -1) };
        let error = io::Error::last_os_error().raw_os_error();
        assert_eq!((result, error), (-1, Some(libc::ENOSYS)), "decide {number} in table.rs");
    }
}
