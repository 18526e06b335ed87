"""A sandbox is a machine of its own: users, processes, network, names and files."""

import os
import re
import socket
import time
from pathlib import Path

import pytest

from conftest import host_pid, output, python
from harness import host


def test_every_namespace_is_its_own(sandboxes):
    first, second = sandboxes(), sandboxes()
    ours, a, b = host.namespaces(), host.namespaces(host_pid(first)), host.namespaces(host_pid(second))
    for kind in ("user", "mnt", "pid", "ipc", "uts", "net", "cgroup"):
        assert len({ours[kind], a[kind], b[kind]}) == 3, kind


def test_user_ranges_never_overlap(sandboxes):
    ranges = []
    for sandbox in [sandboxes() for _ in range(4)]:
        pid = host_pid(sandbox)
        for kind in ("uid", "gid"):
            [(inside, outside, length)] = host.id_map(pid, kind)
            assert (inside, length) == (0, 65536)
            assert outside >= 65536, "no user of the host is in the range"
            if kind == "uid":
                ranges.append((outside, outside + length))
    ranges.sort()
    for (_, end), (start, _) in zip(ranges, ranges[1:]):
        assert end <= start


def test_root_inside_is_nobody_outside(sandbox):
    pid = host_pid(sandbox, user="root")
    real, effective, saved, filesystem = host.status(pid)["Uid"].split()
    assert real == effective == saved == filesystem
    assert int(real) >= 65536
    assert int(host.status(pid)["Uid"].split()[0]) == host.id_map(pid)[0][1]


def test_processes_of_others_are_invisible(sandboxes):
    first, second = sandboxes(), sandboxes()
    first.commands.run("exec sleep 123456", background=True, timeout=0)
    seen = output(second, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '", user="root")
    assert "sleep 123456" not in seen
    assert "soulbox serve" not in seen
    pids = [int(p) for p in output(second, "ls /proc | grep -E '^[0-9]+$'").split()]
    assert 1 in pids and len(pids) < 30


def test_files_of_the_host_are_invisible(sandbox, tmp_path):
    secret = f"host-secret-{os.getpid()}"
    for place in (tmp_path, Path("/root"), Path("/var/tmp"), Path("/dev/shm")):
        path = place / secret
        path.write_text(secret)
        try:
            assert output(sandbox, f"cat {path} 2>&1", user="root").endswith("No such file or directory")
            assert output(sandbox, f"find / -xdev -name {secret} 2>/dev/null | head -1", user="root") == ""
        finally:
            path.unlink()
    data_dir = os.environ["SOULBOX_DATA_DIR"]
    assert output(sandbox, f"ls {data_dir} 2>&1", user="root").endswith("No such file or directory")


def test_changes_stay_in_their_sandbox(sandboxes):
    first, second = sandboxes(), sandboxes()
    first.commands.run("echo mine > /etc/marker; rm -f /bin/true /usr/bin/true; echo x >> /etc/hosts", user="root")
    assert output(first, "cat /etc/marker") == "mine"
    assert "No such file" in output(second, "cat /etc/marker 2>&1")
    assert output(second, "true && echo works") == "works"
    third = sandboxes()
    assert "No such file" in output(third, "cat /etc/marker 2>&1")
    assert not Path("/etc/marker").exists()


def test_the_user_can_write_where_users_write(shared):
    for place in ("/home/user", "/tmp", "/var/tmp", "/dev/shm"):
        assert output(shared, f"echo ok > {place}/probe && cat {place}/probe") == "ok", place
    assert "denied" in output(shared, "echo x > /etc/probe").lower()
    assert output(shared, "echo ok > /etc/probe && cat /etc/probe", user="root") == "ok"


def test_names_are_its_own(sandboxes):
    first, second = sandboxes(), sandboxes()
    for what in ("cat /proc/sys/kernel/random/boot_id", "hostname || cat /proc/sys/kernel/hostname", "cat /etc/machine-id"):
        a, b = output(first, what), output(second, what)
        assert a and b and a != b, what
    assert output(first, "hostname || cat /proc/sys/kernel/hostname") != socket.gethostname()
    assert output(first, "cat /proc/sys/kernel/random/boot_id") != Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert re.fullmatch(r"[0-9a-f]{32}", output(first, "cat /etc/machine-id"))
    assert output(first, "cat /proc/sys/kernel/random/boot_id") == output(first, "cat /proc/sys/kernel/random/boot_id")
    assert output(first, "getent hosts localhost; getent hosts $(cat /proc/sys/kernel/hostname)")


def test_the_machine_is_not_reached(sandbox):
    """What sandboxes reach of the internet, and under which rules, is asked by `tests/network`."""
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        listener.setblocking(False)
        port = listener.getsockname()[1]
        own = socket.gethostbyname(socket.gethostname())
        program = f"""
import socket, time
for address in ["{own}", "127.0.0.1", "169.254.169.254", "10.0.0.1", "172.17.0.1", "10.0.2.2"]:
    started = time.monotonic()
    try:
        stream = socket.create_connection((address, {port}), timeout=5)
        stream.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        said = stream.recv(12).decode()
    except ConnectionError:
        said = "closed"
    print(address, said in ("HTTP/1.1 403", "closed"), time.monotonic() - started < 3)
"""
        lines = python(sandbox, program).splitlines()
        assert len(lines) == 6
        for line in lines:
            assert line.endswith("True True"), f"must be refused, and fast: {line}"
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_loopback_works(shared):
    program = """
import socket
for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    listener = socket.socket(family)
    listener.bind((address, 0))
    listener.listen()
    client = socket.create_connection(listener.getsockname()[:2])
    server, _ = listener.accept()
    server.sendall(b"ok")
    print(client.recv(2).decode())
"""
    assert python(shared, program, user="user").split() == ["ok", "ok"]


def test_two_sandboxes_do_not_meet_on_loopback_or_abstract_sockets(sandboxes):
    first, second = sandboxes(), sandboxes()
    serve = """
import socket, time
tcp = socket.socket(); tcp.bind(("0.0.0.0", 7777)); tcp.listen()
local = socket.socket(socket.AF_UNIX); local.bind("\\0meeting"); local.listen()
open("/tmp/ready", "w").close()
time.sleep(600)
"""
    first.files.write("/tmp/serve.py", serve)
    first.commands.run("exec python3 /tmp/serve.py", background=True, timeout=0)
    while not first.files.exists("/tmp/ready"):
        time.sleep(0.1)
    probe = """
import socket
for family, address in ((socket.AF_INET, ("127.0.0.1", 7777)), (socket.AF_UNIX, "\\0meeting")):
    s = socket.socket(family)
    try:
        s.connect(address); print("met")
    except ConnectionRefusedError:
        print("refused")
"""
    assert python(first, probe).split() == ["met", "met"]
    assert python(second, probe).split() == ["refused", "refused"]
    s = socket.socket(socket.AF_UNIX)
    with pytest.raises(ConnectionRefusedError):
        s.connect("\0meeting")


def test_no_descriptor_of_the_agent_or_the_server_leaks(shared):
    program = """
import os
for fd in sorted(os.listdir("/proc/self/fd"), key=int):
    try:
        print(fd, os.readlink(f"/proc/self/fd/{fd}"))
    except OSError:
        pass
"""
    lines = [line.split(" ", 1) for line in python(shared, program).splitlines()]
    assert {fd for fd, _ in lines} <= {"0", "1", "2", "3"}
    assert all(target.startswith(("pipe:", "/dev/null", "/proc/")) for _, target in lines), lines


def test_programs_find_the_limits_where_they_look(shared):
    limits = {}
    for path in output(shared, "find /sys/fs/cgroup -type f").split():
        limits[path.removeprefix("/sys/fs/cgroup/")] = output(shared, f"cat {path}").split()
    info, total = shared.get_info(), None
    if "memory.max" in limits:
        total, (quota, period) = limits["memory.max"][0], limits["cpu.max"]
    else:
        total = limits["memory/memory.limit_in_bytes"][0]
        quota, period = limits["cpu/cpu.cfs_quota_us"][0], limits["cpu/cpu.cfs_period_us"][0]
    assert int(total) == info.memory_mb * 1024 * 1024
    assert int(quota) == info.cpu_count * int(period)
    assert "Read-only file system" in output(shared, "touch /sys/fs/cgroup/x", user="root")


def test_node_sizes_its_heap_by_the_limit(shared):
    if output(shared, "command -v node || true") == "":
        pytest.skip("no Node in this template")
    heap = int(output(shared, "node -p 'require(\"v8\").getHeapStatistics().heap_size_limit'"))
    assert heap < shared.get_info().memory_mb * 1024 * 1024


def test_figures_fit_the_limits(shared):
    info = shared.get_info()
    total = int(re.search(r"MemTotal:\s+(\d+)", output(shared, "cat /proc/meminfo")).group(1))
    inside = output(shared, "nproc")
    host_total = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text()).group(1))
    assert int(inside) >= 1
    if total == host_total:
        pytest.skip("this engine shows the host's memory figure")
    assert total == info.memory_mb * 1024
