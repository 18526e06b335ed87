"""The host's side of a sandbox: processes, namespaces, mounts and cgroups as `/proc` shows them."""

import os
import time
from pathlib import Path


def processes(text):
    """Host process IDs whose command line holds `text`, this process excluded."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(int(entry.name))
    return sorted(found)


def process(text, within=10):
    """The one process whose command line holds `text`. Between two programs a process has none, so this waits."""
    deadline = time.monotonic() + within
    while True:
        found = processes(text)
        if len(found) == 1:
            return found[0]
        assert time.monotonic() < deadline, f"{len(found)} processes with {text!r}"
        time.sleep(0.05)


def namespaces(pid="self"):
    """Name of each namespace kind → its identity."""
    directory = Path(f"/proc/{pid}/ns")
    return {entry.name: os.readlink(entry) for entry in directory.iterdir() if not entry.name.endswith("_for_children")}


def status(pid):
    """`/proc/<pid>/status` as a mapping."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, value in (line.split(":", 1) for line in lines)}


def id_map(pid, kind="uid"):
    """(first inside, first outside, length) per line of `uid_map` or `gid_map`."""
    text = Path(f"/proc/{pid}/{kind}_map").read_text()
    return [tuple(int(part) for part in line.split()) for line in text.splitlines()]


def cgroups(pid):
    """Directories of the process's cgroups, one per hierarchy."""
    mounts = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        kind, options = fields[fields.index("-") + 1], fields[-1].split(",")
        if kind == "cgroup2":
            mounts[""] = fields[4]
        elif kind == "cgroup":
            for option in options:
                mounts.setdefault(option, fields[4])
    found = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            if controller in mounts:
                found[controller] = Path(mounts[controller] + path)
    return found


def cgroup_of(pid, controller):
    """The process's cgroup in the hierarchy that has `controller`."""
    groups = cgroups(pid)
    return groups.get(controller) or groups[""]


def cgroup_file(pid, *candidates):
    """Content of the first file that exists among (controller, v1 name) and ("", v2 name) pairs."""
    groups = cgroups(pid)
    for controller, name in candidates:
        path = groups.get(controller)
        if path is not None and (path / name).exists():
            return (path / name).read_text().strip()
    raise AssertionError(f"none of {candidates} among {groups}")


def footprint(server):
    """Counts of everything that sandboxes of one server may leave behind."""
    groups = instance_groups(server.data_dir)
    members = {int(p) for group in groups for d, _, _ in os.walk(group) for p in lines(f"{d}/cgroup.procs")}
    held = [kind.split(":")[0] for kind in descriptors(server.process.pid)]
    return {
        "cgroups": sum(1 for group in groups for _ in os.walk(group)),
        "processes": len(members),
        "network namespaces": held.count("net"),
        "user namespaces": held.count("user"),
        "process handles": held.count("anon_inode") + held.count("pidfd"),
        "mounts": sum(f" {server.data_dir}/" in line for line in lines("/proc/self/mountinfo")),
        "loop devices": len(loop_devices(server.data_dir)),
        "files": files(server.data_dir),
        "layers": len(listing(server.data_dir / "store/layers")),
        **owned(server.data_dir),
    }


# Where the id ranges of sandboxes begin, how long one is, and how many there are: `engine-native/src/slots.rs`.
FIRST_ID, RANGE, RANGES = 0x4000_0000, 65536, (0x7FFF_0000 - 0x4000_0000) // 65536
# Ranges of one server that are looked at; those of other servers on the machine rarely lie so near.
NEAREST = 512


def owned(data_dir):
    """What lives on ids of the server's own ranges, in whatever cgroup, and the namespaces that it is in."""
    first = int((Path(data_dir) / "instance").read_text(), 16) % RANGES
    ours = {(first + n) % RANGES for n in range(NEAREST)}
    processes, found = 0, set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            known = status(entry.name)
            uid = int(known["Uid"].split()[0])
            if uid < FIRST_ID or (uid - FIRST_ID) // RANGE not in ours:
                continue
            # What a dead server's children left to reap is the machine's first process's to do.
            if known["State"].startswith("Z") and known["PPid"] == "1":
                continue
            processes += 1
            found |= set(namespaces(entry.name).values())
        except OSError:
            continue
    return {"processes by owner": processes, "namespaces": len(found - set(namespaces().values()))}


def files(data_dir):
    """Files and directories of the server's own; what lies in a layer, or in one that is made ahead, is the sandbox's.

    A `/sys` is made when limits are first met, and kept for the next with the same: they are few.
    """
    count = 0
    for directory, directories, names in os.walk(data_dir):
        if Path(directory) in (Path(data_dir) / "store/layers", Path(data_dir) / "store/spare"):
            directories.clear()
        if Path(directory) == Path(data_dir) / "run":
            directories[:] = [name for name in directories if not name.startswith("sys-")]
        count += len(directories) + len(names)
    return count


def listing(path):
    try:
        return os.listdir(path)
    except OSError:
        return []


def instance_groups(data_dir):
    """The server's directory in each cgroup hierarchy."""
    name = (Path(data_dir) / "instance").read_text().strip()
    return list(Path("/sys/fs/cgroup").glob(f"*/soulbox/{name}")) + list(Path("/sys/fs/cgroup").glob(f"soulbox/{name}"))


def loop_devices(data_dir):
    backing = (f.read_text().strip() for f in Path("/sys/block").glob("loop*/loop/backing_file"))
    return [path for path in backing if path.startswith(f"{data_dir}/")]


def descriptors(pid):
    """What the descriptors of a process lead to."""
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            yield os.readlink(entry)
        except OSError:
            continue


def lines(path):
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
