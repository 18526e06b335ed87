"""What the kernel offers and a sandbox must not have."""

import pytest

from conftest import output, python

CALL = """
import ctypes, errno, os, platform, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    code = ctypes.get_errno()
    return "allowed" if result >= 0 else errno.errorcode.get(code, str(code))
X86 = platform.machine() == "x86_64"
"""

# name → (number on x86_64, number on aarch64, arguments as Python source)
FORBIDDEN = {
    "mount": (165, 40, 'b"none", b"/mnt", b"tmpfs", 0, 0'),
    "umount2": (166, 39, 'b"/proc", 2'),
    "pivot_root": (155, 41, 'b"/", b"/"'),
    "fsopen": (430, 430, 'b"tmpfs", 0'),
    "open_tree": (428, 428, '-100, b"/", 1'),
    "move_mount": (429, 429, '-100, b"/", -100, b"/mnt", 0'),
    "mount_setattr": (442, 442, '-100, b"/", 0, 0, 0'),
    "bpf": (321, 280, "0, 0, 0"),
    "keyctl": (250, 219, "0, -3, 0, 0, 0"),
    "add_key": (248, 217, 'b"user", b"k", b"v", 1, -3'),
    "request_key": (249, 218, 'b"user", b"k", 0, 0'),
    "perf_event_open": (298, 241, "0, 0, -1, -1, 0"),
    "userfaultfd": (323, 282, "0"),
    "io_uring_setup": (425, 425, "1, 0"),
    "kexec_load": (246, 104, "0, 0, 0, 0"),
    "kexec_file_load": (320, 294, "0, 0, 0, 0, 0"),
    "init_module": (175, 105, "0, 0, 0"),
    "finit_module": (313, 273, "0, 0, 0"),
    "delete_module": (176, 106, "0, 0"),
    "swapon": (167, 224, 'b"/x", 0'),
    "reboot": (169, 142, "0xfee1dead, 672274793, 0, 0"),
    "syslog": (103, 116, "3, 0, 0"),
    "acct": (163, 89, "0"),
    "quotactl": (179, 60, "0, 0, 0, 0"),
    "open_by_handle_at": (304, 265, "-100, 0, 0"),
    "settimeofday": (164, 170, "0, 0"),
    "adjtimex": (159, 171, "0"),
    "iopl": (172, None, "3"),
    "ioperm": (173, None, "0, 1, 1"),
    "unshare new user namespace": (272, 97, "0x10000000"),
    "unshare new mount namespace": (272, 97, "0x00020000"),
    "clone new user namespace": (56, 220, "0x10000011, 0, 0, 0, 0"),
    "setns": (308, 268, "0, 0"),
}


@pytest.mark.parametrize("user", ["root", "user"])
def test_forbidden_calls(shared, user):
    table = {name: list(row) for name, row in FORBIDDEN.items()}
    program = CALL + f"""
for name, (x86, arm, arguments) in {table!r}.items():
    number = x86 if X86 else arm
    if number is not None:
        sys.stdout.write(name + "|" + eval(f"call({{number}}, {{arguments}})") + "\\n")
        sys.stdout.flush()
"""
    results = dict(line.split("|") for line in python(shared, program, user=user).splitlines())
    assert len(results) >= len(FORBIDDEN) - 2
    allowed = {name: result for name, result in results.items() if result not in ("EPERM", "ENOSYS", "EACCES")}
    assert not allowed


def test_clone3_pretends_not_to_exist_for_new_namespaces(shared):
    program = CALL + """
import struct
arguments = struct.pack("<11Q", 0x10000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0)
print(call(435, arguments, len(arguments)))
"""
    assert python(shared, program) in ("ENOSYS", "EPERM")


@pytest.mark.parametrize("user", ["root", "user"])
def test_socket_families(shared, user):
    families = {"AF_ALG": 38, "AF_PACKET": 17, "AF_VSOCK": 40, "AF_XDP": 44, "AF_TIPC": 30, "AF_RDS": 21, "AF_CAN": 29, "AF_BLUETOOTH": 31, "AF_KEY": 15, "AF_SMC": 43}
    program = f"""
import socket
for name, number in {families!r}.items():
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, 5):
        try:
            socket.socket(number, kind, 0).close()
            print("allowed", name, kind)
        except OSError:
            pass
for protocol in (6, 12):
    try:
        socket.socket(16, socket.SOCK_RAW, protocol).close()
        print("allowed netlink", protocol)
    except OSError:
        pass
for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6):
    socket.socket(family, socket.SOCK_STREAM).close()
print("done")
"""
    assert python(shared, program, user=user) == "done"


def test_other_entry_points_of_the_kernel(shared):
    """x32 numbers must not lead around the filter."""
    program = CALL + """
if X86:
    for number in (165, 272, 321):
        result = call(0x40000000 | number, 0x10000000, 0, 0, 0, 0)
        if result not in ("ENOSYS", "EPERM"):
            print(number, result)
print("done")
"""
    assert python(shared, program) == "done"


@pytest.mark.parametrize(
    "path",
    [
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/vm/drop_caches",
        "/proc/sys/vm/panic_on_oom",
        "/proc/sys/kernel/panic",
        "/proc/sys/kernel/sysrq",
        "/proc/sys/fs/binfmt_misc/register",
        "/proc/irq/default_smp_affinity",
        "/sys/kernel/uevent_helper",
        "/sys/power/state",
        "/sys/fs/cgroup/cgroup.procs",
        "/proc/1/mem",
    ],
)
def test_what_must_not_be_written(shared, path):
    # What is masked has /dev/null over it, which takes everything and does nothing.
    unmasked = f'[ "$(stat -c %t:%T {path} 2>/dev/null)" != 1:3 ]'
    said = output(shared, f"{unmasked} && echo 1 2>/dev/null > {path} && echo WRITTEN; true", user="root")
    assert "WRITTEN" not in said


@pytest.mark.parametrize("path", ["/proc/kcore", "/proc/keys", "/proc/key-users", "/proc/timer_list", "/proc/sched_debug", "/proc/kmsg", "/proc/latency_stats", "/dev/mem", "/dev/kmem", "/dev/port", "/dev/sda", "/dev/vda", "/dev/loop-control", "/dev/kvm", "/dev/fuse", "/sys/firmware/dmi/tables/DMI", "/sys/kernel/debug", "/proc/1/environ", "/proc/1/root/etc"])
def test_what_must_not_be_read(shared, path):
    assert output(shared, f"head -c 16 {path} 2>/dev/null | wc -c; ls {path}/ 2>/dev/null | wc -l", user="root").split() in (["0", "0"], ["0", "1"])


def test_kernel_addresses_are_hidden(shared):
    lines = output(shared, "head -5 /proc/kallsyms 2>/dev/null", user="root").splitlines()
    assert all(line.startswith("0" * 16) for line in lines)


def test_devices_are_few(shared):
    present = set(output(shared, "ls /dev", user="root").split())
    allowed = {"null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "pts", "shm", "mqueue", "fd", "stdin", "stdout", "stderr", "core", "log"}
    assert present <= allowed, present - allowed
    assert {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "fd", "stdin", "stdout", "stderr"} <= present
    assert output(shared, "head -c 4 /dev/zero | wc -c; echo x > /dev/null && echo ok; head -c 4 /dev/urandom | wc -c").split() == ["4", "ok", "4"]
    assert "full" in output(shared, "echo x > /dev/full").lower() or "space" in output(shared, "echo x > /dev/full").lower()


def test_device_nodes_cannot_be_made_or_used(shared):
    said = output(shared, "rm -f /tmp/disk; mknod /tmp/disk b 254 0 2>&1 && head -c 1 /tmp/disk | wc -c", user="root")
    assert said == "0" or "permitted" in said.lower() or "denied" in said.lower()


def test_mounts_carry_their_flags(shared):
    mounts = {line.split()[1]: (line.split()[0], set(line.split()[3].split(","))) for line in output(shared, "cat /proc/mounts").splitlines()}
    assert "nodev" in mounts["/"][1]
    for place in ("/dev/shm", "/proc"):
        assert {"nosuid", "nodev"} <= mounts[place][1], place
    if "/sys" in mounts:
        assert "ro" in mounts["/sys"][1]
    text = output(shared, "cat /proc/self/mountinfo", user="root")
    import os

    assert os.environ["SOULBOX_DATA_DIR"] not in text, "paths of the host do not show"


def test_capabilities_are_bounded(shared):
    status = dict(line.split(":\t") for line in output(shared, "grep ^Cap /proc/self/status", user="root").splitlines())
    bounding = int(status["CapBnd"], 16)
    forbidden = {"SYS_MODULE": 16, "SYS_RAWIO": 17, "SYS_BOOT": 22, "SYS_TIME": 25, "SYS_ADMIN": 21, "MAC_ADMIN": 33, "SYSLOG": 34, "BPF": 39, "PERFMON": 38, "SYS_PTRACE": 19}
    present = [name for name, bit in forbidden.items() if bounding >> bit & 1]
    assert not present
    assert int(dict(line.split(":\t") for line in output(shared, "grep ^Cap /proc/self/status").splitlines())["CapEff"], 16) == 0
    assert output(shared, "grep ^Seccomp: /proc/self/status").split()[-1] == "2"


def test_sudo_works_without_power_outside(shared):
    if not output(shared, "command -v sudo"):
        pytest.skip("this template has no sudo")
    assert output(shared, "sudo id -u") == "0"
    assert output(shared, "sudo sh -c 'echo x > /etc/by-sudo && cat /etc/by-sudo'") == "x"
    said = output(shared, "sudo mount -t tmpfs none /mnt 2>&1")
    assert "denied" in said or "permitted" in said or "permission" in said


def test_ordinary_programs_have_what_they_need(shared):
    program = """
import ctypes, fcntl, mmap, multiprocessing, os, select, signal, socket, subprocess, tempfile, threading, time
os.memfd_create("m"); os.eventfd(0) if hasattr(os, "eventfd") else None
select.epoll(); fcntl.flock(open("/tmp/l", "w"), fcntl.LOCK_EX)
mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
assert multiprocessing.Pool(2).map(abs, [-1, -2]) == [1, 2]
os.sched_getaffinity(0); os.getrandom(8); os.statvfs("/"); os.setpriority(os.PRIO_PROCESS, 0, 1)
a, b = socket.socketpair(); a.send(b"x"); assert b.recv(1) == b"x"
assert subprocess.run(["true"]).returncode == 0
os.chown(tempfile.mkstemp()[1], 1000, 1000) if os.getuid() == 0 else None
os.mkfifo(tempfile.mktemp())
pid = os.fork()
os._exit(3) if pid == 0 else None
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
print("done")
"""
    assert python(shared, program, user="user") == "done"
    assert python(shared, program, user="root") == "done"
