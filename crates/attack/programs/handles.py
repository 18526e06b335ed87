# setns, pidfd_getfd, process_vm_readv, ptrace, kcmp: the agent, and the host's processes by their numbers.
outside = [os.getppid()] + [int(a) for a in sys.argv[1:]]
found = {}
found["namespaces"] = [attempt(os.open, f"/proc/1/ns/{n}", os.O_RDONLY) for n in ("mnt", "user", "pid", "net", "cgroup")]
own = os.open("/proc/self/ns/mnt", os.O_RDONLY)
found["setns"] = [call(308, own, 0)]
fd = raw(434, 1, 0)
found["getfd"] = [call(438, fd, n, 0) for n in range(0, 64)] if fd >= 0 else ["closed"]
found["madvise"] = [call(440, fd, 0, 0, 4, 0)]
buffer = ctypes.create_string_buffer(64)
vector = struct.pack("<QQ", ctypes.addressof(buffer), 64)
remote = struct.pack("<QQ", 0x400000, 64)
found["memory"] = [call(310, 1, vector, 1, remote, 1, 0), call(311, 1, vector, 1, remote, 1, 0)]
found["ptrace"] = [call(101, 16, 1, 0, 0), call(101, 0x4206, 1, 0, 0)]
found["kcmp"] = [call(312, os.getpid(), 1, 2, 0, 0)]
for pid in outside:
    if pid > 5000 and not os.path.exists(f"/proc/{pid}"):
        found[f"outside {pid}"] = [call(101, 16, pid, 0, 0), call(434, pid, 0), call(310, pid, vector, 1, remote, 1, 0), call(62, pid, 0)]
found["files"] = [attempt(os.open, "/proc/1/mem", os.O_RDWR), attempt(open, "/proc/1/maps"), attempt(os.listdir, "/proc/1/map_files")]
for number in range(0, 40):
    path = "/proc/1/fd/" + str(number)
    found[path] = [attempt(os.readlink, path), attempt(os.open, path, os.O_RDONLY), attempt(open, path.replace("fd", "fdinfo"))]
tell({name: [str(r) for r in results] for name, results in found.items()})
