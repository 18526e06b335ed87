# /proc/1/root, cwd, fd, environ, and the same of each of its threads.
got = set()
for pid in ["1"] + ["1/task/" + t for t in os.listdir("/proc/1/task")]:
    for name in ("root/etc", "cwd/etc", "fd/3", "environ", "auxv", "io", "stack", "syscall", "pagemap", "mem", "map_files", "exe", "personality", "timerslack_ns"):
        path = f"/proc/{pid}/{name}"
        if name == "timerslack_ns":
            result = attempt(lambda: os.write(os.open(path, os.O_WRONLY), b"1"))
        else:
            result = attempt(os.listdir, path) if os.path.isdir(path) else attempt(lambda: os.read(os.open(path, os.O_RDONLY), 10))
        got.add(str(result))
tell(sorted(got))
