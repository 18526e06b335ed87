# Looks for the word of the arguments (given in halves) in everything that a sandbox can see.
mark = (sys.argv[1] + sys.argv[2]).encode()
found = []
def look(path):
    try:
        with open(path, "rb", buffering=0) as file:
            if mark in (file.read(1 << 16) or b""):
                found.append(path)
    except OSError:
        pass
for top in ("/etc", "/home", "/root", "/tmp", "/var", "/run", "/code", "/dev", "/opt", "/srv", "/mnt", "/usr/local", "/media"):
    for directory, directories, files in os.walk(top):
        for name in directories + files:
            path = os.path.join(directory, name)
            if mark in os.fsencode(path):
                found.append(path)
            elif name in files and os.path.isfile(path) and os.path.getsize(path) < 1 << 20:
                look(path)
            try:
                if any(mark in os.getxattr(path, a, follow_symlinks=False) for a in os.listxattr(path, follow_symlinks=False)):
                    found.append(path + " attribute")
            except OSError:
                pass
own = {str(os.getpid()), str(os.getppid())}
for pid in os.listdir("/proc"):
    if pid.isdigit() and pid not in own:
        for name in ("cmdline", "environ", "comm", "maps"):
            look(f"/proc/{pid}/{name}")
for table in ("unix", "tcp", "tcp6", "udp"):
    look(f"/proc/net/{table}")
ipc = {kind: len(open(f"/proc/sysvipc/{kind}").readlines()) - 1 for kind in ("shm", "sem", "msg")}
found += [f"{n} of SysV {kind}" for kind, n in ipc.items() if n > 0]
found += ["queue " + n for n in os.listdir("/dev/mqueue")]
listening = [l.split()[1] for l in open("/proc/net/tcp").readlines()[1:] if l.split()[3] == "0A"]
found += ["listening " + a for a in listening if not a.endswith(":C33F")]
libc.malloc.restype = ctypes.c_void_p
for _ in range(16):
    block = libc.malloc(ctypes.c_size_t(2 << 20))
    if block and mark in ctypes.string_at(block, 2 << 20):
        found.append("memory")
modes = [oct(os.stat(p).st_mode & 0o7777) for p in ("/", "/tmp")]
tell({"found": found, "modes": modes, "processes": sum(p.isdigit() for p in os.listdir("/proc")) - len(own), "environment": {k: v for k, v in os.environ.items() if mark.decode() in v}})
