# What one user sees of another's processes; the first argument is a process of root.
pid = sys.argv[1]
got = {}
for name in ("environ", "mem", "maps", "auxv", "io", "stack", "syscall", "fd", "map_files", "cwd", "root", "exe"):
    path = f"/proc/{pid}/{name}"
    if name in ("fd", "map_files"):
        got[name] = attempt(os.listdir, path)
    elif name in ("cwd", "root", "exe"):
        got[name] = attempt(os.readlink, path)
    else:
        got[name] = attempt(lambda: os.read(os.open(path, os.O_RDONLY), 4096).decode("latin1"))
buffer = ctypes.create_string_buffer(64)
got["ptrace"] = call(101, 16, int(pid), 0, 0)
got["kill"] = call(62, int(pid), 9)
tell(got)
