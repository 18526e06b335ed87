# cgroup v1 release_agent, and mounting the hierarchy anew.
os.makedirs("/tmp/cg", exist_ok=True)
mounts = [call(165, b"c", b"/tmp/cg", b"cgroup2", 0, 0), call(165, b"c", b"/tmp/cg", b"cgroup", 0, b"memory"), call(430, b"cgroup2", 0), call(430, b"cgroup", 0)]
names = ("release_agent", "cgroup.procs", "notify_on_release", "devices.allow", "memory.limit_in_bytes", "cpu.max")
found = [os.path.join(d, f) for top in ("/sys", "/proc/sys", "/tmp", "/dev") for d, _, files in os.walk(top) for f in files if f in names]
tell({"mounts": mounts, "found": found})
