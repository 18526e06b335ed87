"""The checks, in the order in which they run."""

import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
MIB = 1 << 20


class Skip(Exception):
    """What the check asks about is not there on this machine."""


class World:
    """The server and shorthands for what clients do with it."""

    def __init__(self, server):
        self.server = server
        self.key = None
        # The line in which the server says what it works with.
        self.ready = ""

    def start(self, *arguments):
        self.server.start(*arguments, ready_within=180)
        self.key = self.server.environment()["E2B_API_KEY"]

    def ask(self, method, path, body=None, headers=None, timeout=60):
        """One request to the API; returns the status and the decoded body."""
        request = urllib.request.Request(self.server.url + path, method=method)
        request.add_header("X-API-Key", self.key)
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        if body is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        try:
            return status, json.loads(text or b"null")
        except ValueError:
            return status, text.decode(errors="replace")

    def create(self, timeout=900, **fields):
        status, made = self.ask("POST", "/sandboxes", {"templateID": "host", "timeout": timeout, **fields}, timeout=180)
        assert status == 201, (status, made)
        return made["sandboxID"]

    def kill(self, sandbox):
        status, said = self.ask("DELETE", f"/sandboxes/{sandbox}", timeout=180)
        assert status == 204, (status, said)

    def info(self, sandbox):
        status, said = self.ask("GET", f"/sandboxes/{sandbox}")
        assert status == 200, (status, said)
        return said

    def run(self, sandbox, script, user="root", timeout=300, code=0):
        """A shell command inside; returns what it printed, errors included."""
        command = ["sandbox", "exec", "--user", user, "--timeout", f"{timeout}s", sandbox, "--", "sh", "-c", f"exec 2>&1; {script}"]
        done = self.server.run(*command, code=None, timeout=timeout + 60)
        if code is not None:
            assert done.returncode == code, f"{script}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def python(self, sandbox, program, user="root", timeout=300):
        command = ["sandbox", "exec", "--user", user, "--timeout", f"{timeout}s", sandbox, "--", "python3", "-c", program]
        done = self.server.run(*command, code=None, timeout=timeout + 60)
        assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def group(self, sandbox):
        """The sandbox's cgroup, found by a process of it."""
        mark = str(time.monotonic_ns())
        self.run(sandbox, f"nohup sleep 600.{mark} >/dev/null 2>&1 &")
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and f"600.{mark}".encode() in (entry / "cmdline").read_bytes():
                    path = (entry / "cgroup").read_text().strip().removeprefix("0::")
                    return GROUPS / path.lstrip("/")
            except OSError:
                continue
        raise AssertionError("no process of the sandbox is seen")


def until(condition, within, why):
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, why() if callable(why) else why
        time.sleep(0.2)


def doctor(world):
    """The doctor finds what the engine needs"""
    done = world.server.run("doctor", "--json", code=None, timeout=180)
    said = json.loads(done.stdout)
    checks = said["checks"]
    print(json.dumps(checks, indent=1))
    missing = [c for c in checks if c["status"] == "missing"]
    assert not missing, missing
    return {c["name"]: f"{c['status']}: {c['detail']}" for c in checks}


def start(world):
    """The server starts and says what it works with"""
    world.start()
    lines = world.server.log.read_text().splitlines()
    ready = next(line for line in lines if "native engine ready" in line)
    assert "cgroups=2" in strip_colours(ready), ready
    world.ready = strip_colours(ready)
    warnings = [strip_colours(line) for line in lines if "WARN" in line]
    return {"ready": strip_colours(ready).split("native engine ready")[1].strip(), "warnings": warnings}


def strip_colours(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def life(world):
    """A sandbox is made, runs commands as root and as user, and ends"""
    sandbox = world.create()
    assert world.run(sandbox, "id -u") == "0"
    assert world.run(sandbox, "id -un", user="user") == "user"
    assert world.run(sandbox, "exit 7", code=7) == ""
    world.kill(sandbox)


def memory(world):
    """Memory ends at the limit: the hog is killed, its sandbox and its neighbour live"""
    hog, neighbour = world.create(), world.create()
    group = world.group(hog)
    limit = world.info(hog)["memoryMB"] * MIB
    assert int(read(group / "memory.max")) == limit
    said = world.run(hog, f"python3 -c 'a = bytearray({2 * limit}); print(len(a))'", code=None)
    assert str(2 * limit) not in said, said
    assert keyed(group / "memory.events", "oom_kill") > 0
    assert world.run(hog, "echo alive") == "alive"
    assert world.run(neighbour, "echo alive") == "alive"
    swap = group / "memory.swap.max"
    assert not swap.exists() or read(swap) == "0"
    world.kill(hog)
    world.kill(neighbour)


def files_in_memory(world):
    """What lies in /dev/shm counts as the sandbox's memory"""
    sandbox = world.create()
    group = world.group(sandbox)
    limit = world.info(sandbox)["memoryMB"] * MIB
    world.run(sandbox, f"head -c {2 * limit} /dev/zero > /dev/shm/fill", code=None)
    assert limit // 2 < int(read(group / "memory.current")) <= limit
    # No program has memory to start in there any more; the agent has.
    assert world.info(sandbox)["state"] == "running"
    world.kill(sandbox)
    until(lambda: not group.exists(), 60, "its cgroup is still there")


def processes(world):
    """A fork bomb ends at the limit of processes, and a kill ends it"""
    bomb, neighbour = world.create(), world.create()
    group = world.group(bomb)
    program = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
    world.run(bomb, f"nohup python3 -c '{program}' >/dev/null 2>&1 &")
    until(lambda: keyed(group / "pids.events", "max") > 0, 120, "the limit is never reached")
    assert int(read(group / "pids.current")) <= int(read(group / "pids.max"))
    assert world.run(neighbour, "echo alive") == "alive"
    world.kill(bomb)
    until(lambda: not group.exists(), 60, "its cgroup is still there")
    world.kill(neighbour)


def processor(world):
    """Processor time ends at the limit"""
    sandbox = world.create()
    group = world.group(sandbox)
    cpus = world.info(sandbox)["cpuCount"]
    quota, period = map(int, read(group / "cpu.max").split())
    assert quota == cpus * period
    if (os.cpu_count() or 1) <= cpus:
        raise Skip("this machine has no more processors than a sandbox may use")
    before, began = keyed(group / "cpu.stat", "usage_usec"), time.monotonic()
    burn = "import os, time\nfor _ in range(3): os.fork()\nend = time.monotonic() + 10\nwhile time.monotonic() < end: pass"
    world.run(sandbox, f"python3 -c '{burn}'; sleep 1")
    used = (keyed(group / "cpu.stat", "usage_usec") - before) / 1e6 / (time.monotonic() - began)
    throttled = keyed(group / "cpu.stat", "nr_throttled")
    assert throttled > 0 and used <= cpus * 1.15, (used, throttled)
    world.kill(sandbox)
    return {"used": round(used, 2), "limit": cpus, "throttled": throttled}


def disk(world):
    """What is written ends at the limit of the disk, or of the memory where the store is memory"""
    full, neighbour = world.create(), world.create()
    size = world.info(full)["diskSizeMB"] * MIB
    said = world.run(full, f"head -c {size + 256 * MIB} /dev/zero > /home/user/fill; stat -c %s /home/user/fill", code=None, timeout=900)
    written = int(world.run(full, "stat -c %s /home/user/fill"))
    assert 64 * MIB < written <= size, (written, said)
    world.run(neighbour, "head -c 10000000 /dev/zero > /home/user/ok && rm /home/user/ok")
    world.run(full, "rm /home/user/fill; sync; head -c 1000000 /dev/zero > /home/user/again")
    in_memory = "tmpfs" in world.ready
    if not in_memory:
        assert "space" in said.lower() or "quota" in said.lower(), said
    world.kill(full)
    world.kill(neighbour)
    return {"written": written, "limit": size, "ended by": "memory" if in_memory else "disk"}


def ids(world):
    """Files belong to root and user inside, and to nobody outside; copies up keep their owners"""
    sandbox = world.create()
    script = "touch /root/a; chown 1000:1000 /root/a; chmod u+x /etc/hostname; stat -c '%u %n' /etc/hostname /root/a /etc/passwd /usr/bin/env"
    owners = dict(reversed(line.split()) for line in world.run(sandbox, script).splitlines())
    assert owners == {"/etc/hostname": "0", "/root/a": "1000", "/etc/passwd": "0", "/usr/bin/env": "0"}, owners
    assert world.run(sandbox, "touch ~/mine && stat -c %U ~/mine", user="user") == "user"
    group = world.group(sandbox)
    seen = {os.stat(f"/proc/{pid}").st_uid for pid in read(group / "cgroup.procs").split()}
    assert all(uid >= 1 << 30 for uid in seen), seen
    world.kill(sandbox)


def kernel_surface(world):
    """Mounts, namespaces, devices and the kernel's own tools are out of reach for root inside"""
    sandbox = world.create()
    program = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
calls = {"mount": (165, b"none", b"/mnt", b"tmpfs", 0, 0), "cgroup mount": (165, b"none", b"/mnt", b"cgroup2", 0, 0), "fsopen": (430, b"tmpfs", 0), "open_tree": (428, -100, b"/", 1), "umount": (166, b"/proc", 2), "pivot_root": (155, b"/", b"/"), "unshare user": (272, 0x10000000), "unshare mount": (272, 0x20000), "setns": (308, 0, 0), "bpf": (321, 0, 0, 0), "keyctl": (250, 0, -3, 0, 0, 0), "perf_event_open": (298, 0, 0, -1, -1, 0), "userfaultfd": (323, 0), "io_uring_setup": (425, 1, 0), "init_module": (175, 0, 0, 0), "kexec_load": (246, 0, 0, 0, 0), "reboot": (169, 0xfee1dead, 672274793, 0, 0), "open_by_handle_at": (304, -100, 0, 0), "syslog": (103, 3, 0, 0), "mknod block": (133, b"/tmp/disk", 0o60666, 0xfe00), "mknod kmsg": (133, b"/tmp/kmsg", 0o20666, 0x10b)}
for name, (number, *arguments) in calls.items():
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    code = errno.errorcode.get(ctypes.get_errno(), "?")
    if result >= 0 or code not in ("EPERM", "ENOSYS", "EACCES"):
        print(name, result, code)
for path in ("/dev/mem", "/dev/vda", "/dev/kmsg", "/dev/fuse", "/dev/loop-control", "/proc/kcore", "/proc/keys", "/proc/1/mem"):
    try:
        with open(path, "rb") as file:
            if file.read(16):
                print("read", path)
    except OSError:
        pass
for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/sys/kernel/uevent_helper", "/sys/fs/cgroup/cgroup.procs", "/proc/sys/vm/drop_caches"):
    try:
        if os.stat(path).st_rdev == os.makedev(1, 3):
            continue  # /dev/null lies over it
        with open(path, "w") as file:
            file.write("1")
            file.flush()
            print("wrote", path)
    except OSError:
        pass
print("end")
"""
    said = world.python(sandbox, program)
    assert said == "end", said
    mounts = {line.split()[1]: line.split()[3].split(",") for line in world.run(sandbox, "cat /proc/mounts").splitlines()}
    assert "nodev" in mounts["/"], mounts["/"]
    for place in ("/dev/shm", "/proc"):
        assert {"nosuid", "nodev"} <= set(mounts[place]), place
    assert world.run(sandbox, "head -c 4 /dev/zero | wc -c; echo x > /dev/null && echo ok").split() == ["4", "ok"]
    status = world.run(sandbox, "grep -E '^(Seccomp|CapBnd|NoNewPrivs)' /proc/self/status")
    assert "Seccomp:\t2" in status, status
    world.kill(sandbox)


def cgroup_is_out_of_reach(world):
    """The sandbox sees no cgroup above its own, and lies in a leaf with all of its processes"""
    sandbox = world.create()
    group = world.group(sandbox)
    assert world.run(sandbox, "cat /proc/self/cgroup; cat /proc/1/cgroup").split() == ["0::/", "0::/"]
    assert world.run(sandbox, "ls /sys/fs/cgroup | wc -l") == "0"
    assert not [entry for entry in group.iterdir() if entry.is_dir()], "nothing lies below it"
    assert read(group / "cgroup.subtree_control") == ""
    for level in (group.parent, group.parent.parent):
        assert read(level / "cgroup.procs") == "", f"{level} holds processes"
    world.kill(sandbox)


def ports(world):
    """A port that the sandbox serves is reached by its host name"""
    sandbox = world.create()
    world.run(sandbox, "mkdir /tmp/www; echo served > /tmp/www/a; cd /tmp/www; nohup python3 -m http.server 8000 >/dev/null 2>&1 &")
    host = {"Host": f"8000-{sandbox}.localhost"}

    def answer():
        return world.ask("GET", "/a", headers=host)

    until(lambda: answer()[0] == 200, 60, lambda: answer())
    assert answer()[1].strip() == "served"
    world.kill(sandbox)


# Of the other end of a cable: what sandboxes may reach.
SITE = "93.184.216.34"

OUT = """
import socket, sys, urllib.error, urllib.request
def get(url):
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return f"{answer.status} {answer.read().decode().strip()}"
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.headers.get('x-soulbox')}"
print(get("http://SITE/a"))
print(get("http://10.1.2.3/a"))
def datagram(port, content):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(60)
        one.connect(("SITE", port))
        one.send(content)
        try:
            return one.recv(512)
        except OSError as error:
            return type(error).__name__.encode()
print(datagram(9999, b"said").decode())
question = b"\\x12\\x34\\x01\\x00\\x00\\x01" + bytes(6) + b"\\x03www\\x07example\\x03com\\x00\\x00\\x01\\x00\\x01"
print(datagram(53, question)[:2].hex())
""".replace("SITE", SITE)


ECHO = f'import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("{SITE}", 9999))\nwhile True: s.sendto(*s.recvfrom(99))'


def way_out(world):
    """What leaves a sandbox meets the server: allowed, refused in words, changed while it runs"""
    serve = f"mkdir -p /tmp/site && echo outside > /tmp/site/a && ip link set lo up && ip addr add {SITE}/32 dev lo && read _ && ip addr add 45.83.0.2/24 dev world && ip link set world up && cd /tmp/site && (python3 -c '{ECHO}' &) && exec python3 -m http.server 80"
    site = subprocess.Popen(["unshare", "--net", "sh", "-c", serve], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        own = os.stat("/proc/self/ns/net").st_ino
        until(lambda: os.stat(f"/proc/{site.pid}/ns/net").st_ino != own, 60, "no namespace for the other end")
        for command in (f"link add cable type veth peer name world netns {site.pid}", "addr add 45.83.0.1/24 dev cable", "link set cable up", f"route add {SITE} via 45.83.0.2"):
            subprocess.run(["ip", *command.split()], check=True)
        site.stdin.write(b"\n")
        site.stdin.flush()
        until(lambda: subprocess.run(["python3", "-c", f"import socket; socket.create_connection(('{SITE}', 80), 5)"], capture_output=True).returncode == 0, 120, "the other end does not answer")
        sandbox = world.create()
        refused = ["403 egress", "ConnectionRefusedError", "1234"]
        assert world.python(sandbox, OUT).splitlines() == ["200 outside", *refused]
        status, said = world.ask("PUT", f"/sandboxes/{sandbox}/network", {"denyOut": [SITE]})
        assert status == 204, (status, said)
        assert world.python(sandbox, OUT).splitlines() == ["403 egress", *refused]
        status, said = world.ask("PUT", f"/soulbox/v1/sandboxes/{sandbox}/requests", {"udp": [f"{SITE}:9999"]})
        assert status == 204, (status, said)
        assert world.python(sandbox, OUT).splitlines()[2] == "said"
        world.kill(sandbox)
    finally:
        os.killpg(site.pid, signal.SIGKILL)
        site.wait()


def files(world):
    """Files go in and come out"""
    sandbox = world.create()
    here = Path("/tmp/here")
    here.write_bytes(os.urandom(3_000_000))
    world.server.run("sandbox", "cp", str(here), f"{sandbox}:/home/user/there", timeout=300)
    world.server.run("sandbox", "cp", f"{sandbox}:/home/user/there", "/tmp/back", timeout=300)
    assert Path("/tmp/back").read_bytes() == here.read_bytes()
    world.kill(sandbox)


def metrics(world):
    """The counters of the cgroup and of the layer arrive in the API"""
    sandbox = world.create()
    world.run(sandbox, "head -c 20000000 /dev/urandom > /home/user/data")

    def said():
        return world.ask("GET", f"/sandboxes/{sandbox}/metrics")[1]

    until(lambda: said() and said()[-1]["diskUsed"] >= 19_000_000 and said()[-1]["memUsed"] > 0, 90, lambda: str(said()))
    world.kill(sandbox)


def many(world):
    """Twenty sandboxes at once, past what the pool keeps ready; the store keeps nothing of them"""
    before = len(quota_groups())
    made = [world.create() for _ in range(20)]
    assert {world.run(sandbox, "hostname") for sandbox in made[:3]} == {world.run(sandbox, "cat /etc/hostname") for sandbox in made[:3]}
    for sandbox in made:
        world.kill(sandbox)
    # The kernel frees the space of a deleted layer after half a minute; then its quota group may go.
    deadline = time.monotonic() + 120
    while len(quota_groups()) > before + 4:
        assert time.monotonic() < deadline, f"{before} quota groups before, now {len(quota_groups())}"
        time.sleep(5)
        world.kill(world.create())


def quota_groups():
    return list(Path("/sys/fs/btrfs").glob("*/qgroups/0_*"))


def timeout(world):
    """A sandbox ends when its time is up"""
    sandbox = world.create(timeout=5)
    until(lambda: world.ask("GET", f"/sandboxes/{sandbox}")[0] == 404, 60, "it is still there")


def restart(world):
    """Sandboxes outlive a killed server; the next one takes them over, and ends them"""
    sandbox = world.create()
    group = world.group(sandbox)
    world.run(sandbox, "echo kept > /root/kept")
    world.server.process.send_signal(signal.SIGKILL)
    world.server.process.wait()
    world.start()
    assert world.run(sandbox, "cat /root/kept") == "kept"
    world.kill(sandbox)
    until(lambda: not group.exists(), 60, "its cgroup is still there")


def container(world):
    """In a container, whose root group holds processes, the server makes room below it"""
    group = GROUPS / "container"
    group.mkdir()
    data, port = "/var/tmp/container", 8123
    inner = "umount /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec {0} serve --data-dir {1} --listen 127.0.0.1:{2} --no-base --kill-sandboxes"
    enter = f"echo $$ > {group}/cgroup.procs && exec unshare --cgroup --mount sh -c '{inner.format(world.server.binary, data, port)}'"
    with Path("/var/tmp/container.log").open("w") as log:
        server = subprocess.Popen(["sh", "-c", enter], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        at = ["--data-dir", data]

        def soulbox(*arguments):
            return subprocess.run([world.server.binary, *at, *arguments], capture_output=True, text=True, timeout=180)

        until(lambda: soulbox("sandbox", "list").returncode == 0, 120, lambda: read("/var/tmp/container.log")[-2000:])
        made = soulbox("sandbox", "create", "--template", "host")
        assert made.returncode == 0, made.stderr
        said = soulbox("sandbox", "exec", made.stdout.strip(), "--", "echo", "inside")
        assert said.stdout == "inside\n", said
        assert str(server.pid) in read(group / "init/cgroup.procs").split()
        assert [d for d in (group / "soulbox").glob("*/*") if d.is_dir()], "its sandboxes are elsewhere"
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
    until(lambda: not (group / "soulbox").exists(), 60, "its cgroups are still there")
    (group / "init").rmdir()
    group.rmdir()


def leftovers(world):
    """A server that ends leaves no mount, cgroup, loop device or process"""
    world.server.run("sandbox", "kill", "--all", timeout=300)
    assert world.server.stop(signal.SIGTERM, within=120) == 0
    own = str(world.server.data_dir)
    assert not [line for line in read("/proc/mounts").splitlines() if f" {own}/" in line]
    assert not (GROUPS / "soulbox").exists(), subprocess.run(["find", GROUPS / "soulbox", "-type", "d"], capture_output=True, text=True).stdout
    backing = [read(file) for file in Path("/sys/block").glob("loop*/loop/backing_file")]
    assert not [path for path in backing if path.startswith(own)], backing
    agents = [entry for entry in Path("/proc").glob("[0-9]*/comm") if "soulbox" in read(entry)]
    assert not agents, agents


def read(path):
    try:
        return Path(path).read_text().strip()
    except FileNotFoundError:
        return ""


def keyed(path, key):
    """The number behind `key` in a file of the cgroup."""
    for line in read(path).splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return 0


FIRST = [
    doctor,
    start,
    life,
    ids,
    memory,
    files_in_memory,
    processes,
    processor,
    disk,
    kernel_surface,
    cgroup_is_out_of_reach,
    ports,
    way_out,
    files,
    metrics,
    many,
    timeout,
    restart,
    container,
]

LAST = [leftovers]
