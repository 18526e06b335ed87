"""Out of the namespaces: executables, descriptors, processes, directories."""

import os
import socket
import time
import uuid
from pathlib import Path

import e2b
import pytest

from conftest import WHO, agent_pid, attack, digest, host_pid, is_well, output, start
from harness import host


@pytest.mark.parametrize("user", WHO)
def test_overwriting_the_agent_through_proc_exe(shared, neighbour, user):
    """17. runc CVE-2019-5736: the executable of the agent, and of what it starts, opened for writing."""
    agent, other = f"/proc/{agent_pid(shared)}/exe", f"/proc/{agent_pid(neighbour)}/exe"
    before = digest(agent)
    assert before == digest(other), "all agents are one file: who writes it owns every sandbox"
    program = """
print("direct", {attempt(os.open, "/proc/1/exe", flags) for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_PATH)})
end, seen = time.monotonic() + 2, 0
while time.monotonic() < end:
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or int(pid) == os.getpid():
            continue
        seen += 1
        fd = attempt(os.open, f"/proc/{pid}/exe", os.O_PATH)
        if isinstance(fd, int):
            if "agent" in os.readlink(f"/proc/self/fd/{fd}"):
                print("held", pid, attempt(os.open, f"/proc/self/fd/{fd}", os.O_WRONLY))
            os.close(fd)
print("tried", seen > 100)
"""
    running = start(shared, program, user)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        shared.commands.run("true")
    lines = running.wait().stdout.strip().splitlines()
    assert lines == ["direct {'EACCES'}", "tried True"]
    assert digest(agent) == digest(other) == before


def test_a_script_that_executes_the_agent(shared):
    """17. The other half of CVE-2019-5736: a program whose interpreter is the process that starts it."""
    shared.commands.run("printf '#!/proc/self/exe\\n' > /tmp/evil && chmod 755 /tmp/evil", user="root")
    assert "agent" not in output(shared, "readlink /proc/self/exe; /tmp/evil 2>&1 | head -c 300; true", user="root")
    assert is_well(shared)


@pytest.mark.parametrize("user", WHO)
def test_working_directories_that_lead_outside(shared, user):
    """18. runc CVE-2024-21626: a working directory that is a leaked descriptor of the host's tree."""
    root = output(shared, "stat -c %d:%i /")
    for fd in range(3, 40, 3):
        for cwd in (f"/proc/self/fd/{fd}", f"/proc/1/fd/{fd}"):
            try:
                done = shared.commands.run("pwd -P; stat -c %d:%i ../../../../../../../..", cwd=cwd, user=user)
            except Exception:
                continue
            assert done.stdout.split()[-1] == root, f"{cwd} led outside: {done.stdout}"
    try:
        done = shared.commands.run("stat -c %d:%i ../../../../../../../..", cwd="/proc/1/root", user=user)
    except Exception:
        return
    assert done.stdout.split()[-1] == root


def test_no_descriptor_is_inherited(shared):
    """18. A program has its three standard descriptors and no other; also behind a terminal."""
    assert output(shared, "ls /proc/self/fd | sort -n | tr '\\n' ' '", user="root") == "0 1 2 3"
    assert output(shared, "exec 2>/dev/null; python3 -c 'import os; print([f for f in range(3, 4096) if os.path.exists(f\"/proc/self/fd/{f}\")])'", user="root") in ("[3]", "[]")


def test_taking_the_masks_off_proc(shared):
    """19. runc CVE-2025-31133, -52565, -52881: masked files are verified to be the null device, and stay."""
    masked = ["kcore", "keys", "key-users", "timer_list", "sysrq-trigger", "kallsyms", "kmsg", "cmdline"]
    program = f"""
for name in {masked!r}:
    path = "/proc/" + name
    if os.path.lexists(path):
        stat = os.stat(path)
        print(name, (os.major(stat.st_rdev), os.minor(stat.st_rdev)) == (1, 3), attempt(os.unlink, path), attempt(os.rename, path, "/tmp/x"), attempt(os.symlink, "/tmp/x", path), call(166, path.encode(), 2))
print(attempt(os.unlink, "/dev/null"), attempt(os.symlink, "/proc/sysrq-trigger", "/dev/null2"), attempt(os.rename, "/dev/pts", "/dev/x"), os.path.exists("/dev/console"))
"""
    *masks, devices = attack(shared, program).splitlines()
    assert masks
    for line in masks:
        name, is_null, *rest = line.split()
        assert is_null == "True", line
        assert set(rest) <= {"EPERM", "EBUSY", "EROFS", "EACCES", "EXDEV", "EEXIST", "ENOENT"}, line
    assert devices.split()[0] in ("EROFS", "EPERM") and devices.split()[1] in ("EROFS", "EPERM") and devices.endswith("False")


@pytest.mark.parametrize("user", WHO)
def test_control_groups(shared, user):
    """20. cgroup v1 release_agent, and mounting the hierarchy anew."""
    pid = host_pid(shared)
    before = host.cgroups(pid)
    program = """
os.makedirs("/tmp/cg", exist_ok=True)
print(call(165, b"c", b"/tmp/cg", b"cgroup2", 0, 0), call(165, b"c", b"/tmp/cg", b"cgroup", 0, b"memory"), call(430, b"cgroup2", 0), call(430, b"cgroup", 0))
found = [os.path.join(d, f) for top in ("/sys", "/proc/sys", "/tmp", "/dev") for d, _, files in os.walk(top) for f in files if f in ("release_agent", "cgroup.procs", "notify_on_release", "devices.allow", "memory.limit_in_bytes", "cpu.max")]
print(found)
"""
    mounts, found = attack(shared, program, user=user).splitlines()
    assert set(mounts.split()) == {"EPERM"} and found == "[]"
    assert host.cgroups(pid) == before


HOST_SETTINGS = ["kernel/core_pattern", "kernel/modprobe", "kernel/hotplug", "kernel/panic", "kernel/sysrq", "kernel/randomize_va_space", "kernel/kptr_restrict", "vm/overcommit_memory", "vm/swappiness", "fs/suid_dumpable", "fs/protected_symlinks", "kernel/pid_max"]


@pytest.mark.parametrize("user", WHO)
def test_settings_of_the_kernel(shared, user):
    """21., 22. Every file of /proc and /sys that does not belong to a process is opened for writing."""
    def settings():
        return {name: Path("/proc/sys", name).read_text() for name in HOST_SETTINGS if Path("/proc/sys", name).exists()}

    before = settings()
    program = """
import stat
opened = []
for top in ("/proc", "/sys"):
    for directory, directories, files in os.walk(top):
        if directory == "/proc":
            directories[:] = [d for d in directories if not d.isdigit() and d not in ("self", "thread-self")]
        for name in files:
            path = os.path.join(directory, name)
            if os.path.realpath(path).startswith(f"/proc/{os.getpid()}/"):
                continue
            for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC):
                try:
                    fd = os.open(path, flags | os.O_NONBLOCK)
                except OSError:
                    continue
                mode = os.fstat(fd)
                if not (stat.S_ISCHR(mode.st_mode) and mode.st_rdev == os.makedev(1, 3)):
                    opened.append(path)
                os.close(fd)
print(sorted(set(opened)))
for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/fs/binfmt_misc/register", "/sys/kernel/uevent_helper"):
    try:
        open(path, "w").write("|/tmp/pwned")
    except OSError:
        pass
"""
    assert attack(shared, program, user=user) == "[]"
    assert settings() == before


@pytest.mark.parametrize("user", WHO)
def test_device_nodes(shared, user):
    """23. Nodes of the host's disks and of its memory, everywhere that can be written."""
    disks = sorted({os.stat(p).st_rdev for p in Path("/dev").iterdir() if p.is_block_device()})[:6]
    program = f"""
import stat
for place in ("/tmp", "/dev/shm", "/home/user", "/dev", "/var/tmp"):
    for kind, number in [(stat.S_IFBLK, d) for d in {disks!r}] + [(stat.S_IFCHR, os.makedev(1, 1)), (stat.S_IFCHR, os.makedev(10, 232)), (stat.S_IFCHR, os.makedev(10, 229))]:
        path = place + "/node"
        made = attempt(os.mknod, path, kind | 0o666, number)
        if made is None:
            print("MADE", path, number, attempt(os.open, path, os.O_RDWR))
            os.unlink(path)
for line in open("/proc/mounts"):
    _, place, kind, options, *_ = line.split()
    if "nodev" not in options.split(",") and not place.startswith(("/dev", "/proc/")):
        print("DEVICES WORK AT", place)
print("done")
"""
    assert attack(shared, program, user=user) == "done"


@pytest.mark.parametrize("user", WHO)
def test_handles_of_other_namespaces_and_processes(shared, user):
    """26. setns, pidfd_getfd, process_vm_readv, ptrace, kcmp: the agent, and the host's processes by their numbers."""
    outside = [os.getppid(), int(os.environ["SOULBOX_SERVER_PID"]), agent_pid(shared)]
    program = f"""
print("ns", {{attempt(os.open, f"/proc/1/ns/{{n}}", os.O_RDONLY) for n in ("mnt", "user", "pid", "net", "cgroup")}})
own = os.open("/proc/self/ns/mnt", os.O_RDONLY)
print("setns", call(308, own, 0))
fd = raw(434, 1, 0)
print("getfd", {{call(438, fd, n, 0) for n in range(0, 16)}} if fd >= 0 else "closed")
print("madvise", call(440, fd, 0, 0, 4, 0))
buffer = ctypes.create_string_buffer(64)
vector = struct.pack("<QQ", ctypes.addressof(buffer), 64)
remote = struct.pack("<QQ", 0x400000, 64)
print("read", call(310, 1, vector, 1, remote, 1, 0), call(311, 1, vector, 1, remote, 1, 0))
print("ptrace", call(101, 16, 1, 0, 0), call(101, 0x4206, 1, 0, 0))
print("kcmp", call(312, os.getpid(), 1, 2, 0, 0))
for pid in {outside!r}:
    if pid > 5000 and not os.path.exists(f"/proc/{{pid}}"):
        print("outside", call(101, 16, pid, 0, 0), call(434, pid, 0), call(310, pid, vector, 1, remote, 1, 0), call(62, pid, 0))
print("mem", attempt(os.open, "/proc/1/mem", os.O_RDWR), attempt(open, "/proc/1/maps"), attempt(os.listdir, "/proc/1/map_files"))
for number in range(0, 30):
    path = "/proc/1/fd/" + str(number)
    print("fd", attempt(os.readlink, path), attempt(os.open, path, os.O_RDONLY), attempt(open, path.replace("fd", "fdinfo")))
"""
    refused = {"EPERM", "EACCES", "ESRCH", "closed", "EBADF", "EINVAL", "ENOENT"}
    lines = attack(shared, program, user=user).splitlines()
    assert len(lines) >= 8
    for line in lines:
        name, *results = line.replace("{", "").replace("}", "").replace("'", "").replace(",", "").split()
        assert set(results) <= refused, line


def test_breaking_out_of_a_changed_root(shared):
    """34. The classic: chroot into a directory while holding one above it, then upwards."""
    program = """
root = os.stat("/")
os.makedirs("/tmp/jail", exist_ok=True)
above = os.open("/", os.O_RDONLY)
os.chroot("/tmp/jail")
os.fchdir(above)
for _ in range(200):
    os.chdir("..")
os.chroot(".")
here = os.stat("/")
print((root.st_dev, root.st_ino) == (here.st_dev, here.st_ino), call(155, b".", b"."), sorted(os.listdir("/")) == sorted(os.listdir(above)))
"""
    assert attack(shared, program).split() == ["True", "EPERM", "True"]


@pytest.mark.parametrize("user", WHO)
def test_through_proc_to_the_agent(shared, user):
    """35. /proc/1/root, cwd, fd, environ, and the same of each of its threads."""
    program = """
got = set()
for pid in ["1"] + ["1/task/" + t for t in os.listdir("/proc/1/task")]:
    for name in ("root/etc", "cwd/etc", "fd/3", "environ", "auxv", "io", "stack", "syscall", "pagemap", "mem", "map_files", "exe"):
        path = f"/proc/{pid}/{name}"
        got.add(str(attempt(os.listdir, path) if os.path.isdir(path) else attempt(lambda: os.read(os.open(path, os.O_RDONLY), 10))))
print(got)
"""
    assert eval(attack(shared, program, user=user)) <= {"EACCES", "EPERM", "ENOENT", "ESRCH"}


def test_signals_to_the_agent(sandboxes, neighbour):
    """15., 36. Every signal to PID 1 and to all: the agent goes on, or its own sandbox ends and the API says so."""
    sandbox = sandboxes()
    agent = agent_pid(sandbox)
    try:
        attack(sandbox, """
for number in range(1, 65):
    raw(62, 1, number)
    fd = raw(434, 1, 0)
    raw(424, fd, number, 0, 0)
    os.close(fd)
""")
        output(sandbox, "kill -STOP 1; kill -KILL -1; true", user="root")
        assert is_well(sandbox)
        assert agent_pid(sandbox) == agent
    except e2b.SandboxException:
        deadline = time.monotonic() + 5
        while sandbox.is_running():
            assert time.monotonic() < deadline, "the sandbox neither answers nor counts as ended"
            time.sleep(0.1)
        assert not Path(f"/proc/{agent}").exists()
    assert is_well(neighbour)


def test_crippling_the_agent(sandboxes, neighbour):
    """36. Root inside takes the agent's limits and priority away: its own sandbox suffers, and can be ended."""
    sandbox = sandboxes()
    pid = agent_pid(sandbox)
    attack(sandbox, """
class Limit(ctypes.Structure):
    _fields_ = [("soft", ctypes.c_ulong), ("hard", ctypes.c_ulong)]
none = Limit(0, 0)
for resource in (7, 6, 1, 9):
    raw(302, 1, resource, ctypes.byref(none), 0)
raw(144, 1, 5, ctypes.byref(ctypes.c_int(0)))
open("/proc/1/oom_score_adj", "w").write("1000")
""")
    assert is_well(neighbour)
    started = time.monotonic()
    sandbox.kill()
    assert time.monotonic() - started < 5
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()
    assert is_well(sandboxes())


def test_abstract_sockets_of_the_host(shared):
    """37. Names that only the network namespace keeps apart (containerd-shim, X11)."""
    name = f"soulbox-attack-{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0" + name)
        listener.listen()
        program = f"""
print(attempt(socket.socket(socket.AF_UNIX).connect, "\\0{name}"))
print(open("/proc/net/unix").read().count("{name}"))
"""
        assert attack(shared, program).split() == ["ECONNREFUSED", "0"]


def test_sockets_in_the_tree(shared):
    """38. No socket of a service of the host lies anywhere in the tree."""
    assert output(shared, "find / -xdev -type s 2>/dev/null; find /dev /run /sys -type s 2>/dev/null; find / -xdev -name '*.sock' -not -type f -not -type d -not -type l 2>/dev/null", user="root", timeout=60) == ""


def test_a_socket_beside_the_agents(shared):
    """77. A process inside that takes the agent's port does not get what clients send to the agent."""
    program = """
print(attempt(socket.socket().bind, ("0.0.0.0", 49983)), attempt(socket.socket().bind, ("127.0.0.1", 49983)))
thief = socket.socket()
thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
print(attempt(thief.bind, ("127.0.0.1", 49983)))
"""
    assert set(attack(shared, program).split()) == {"EADDRINUSE"}
    assert is_well(shared)


def test_what_tells_of_the_host(shared, neighbour):
    """39. A walk through /sys, and all that could identify the machine behind two sandboxes."""
    files = output(shared, "find /sys -type f | sort", user="root").splitlines()
    assert files and all(f.startswith(("/sys/devices/system/cpu/", "/sys/devices/system/node/", "/sys/kernel/mm/transparent_hugepage/")) for f in files), files
    assert attack(shared, 'print(call(103, 3, ctypes.create_string_buffer(64), 64), call(103, 10, 0, 0))').split() == ["EPERM", "EPERM"]
    for path in ("/proc/sys/kernel/random/boot_id", "/etc/machine-id", "/proc/sys/kernel/hostname"):
        here, there = (output(s, f"cat {path}") for s in (shared, neighbour))
        own = Path(path).read_text().strip() if Path(path).exists() else ""
        assert len({here, there, own}) == 3, path
    data_dir = os.environ["SOULBOX_DATA_DIR"]
    secrets = [data_dir, socket.gethostname() + "\n"]
    seen = output(shared, "cat /proc/self/mountinfo /proc/mounts /proc/swaps /proc/partitions /proc/cmdline /proc/modules /proc/net/* /proc/self/cgroup 2>/dev/null", user="root") + "\n"
    assert not [s for s in secrets if s in seen]


def test_core_files(shared):
    """40. A crash starts no program of the host and leaves no large file."""
    assert attack(shared, "import resource\nprint(resource.getrlimit(resource.RLIMIT_CORE))") == "(1, 1)"
    raised = attack(shared, """
import resource
try:
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)); print("raised")
except (ValueError, OSError): print("refused")
""")
    assert raised == "refused"
    output(shared, "mkdir -p /tmp/crash && cd /tmp/crash && sh -c 'kill -SEGV $$'; true", user="root")
    assert output(shared, "find /tmp/crash -type f -size +1k", user="root") == ""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if not pattern.startswith("|"):
        assert not [p for p in Path("/").glob("core*") if p.is_file() and time.time() - p.stat().st_mtime < 60]


@pytest.mark.skip(reason="41. this build has no gVisor engine")
def test_gvisor():
    """41. gVisor's own escape regressions and the flags of runsc."""


@pytest.mark.skip(reason="42., 43. this build has no Kubernetes engine")
def test_kubernetes():
    """42., 43. Service-account tokens, kubelet, metadata of nodes, labels that hijack routes."""
