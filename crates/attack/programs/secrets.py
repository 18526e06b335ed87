# The words of the arguments (given in halves) in what any process shows and in all files that may hold them.
words = [(a + b).encode() for a, b in zip(sys.argv[1::2], sys.argv[2::2])]
found = []
own = set()
pid = os.getpid()
while pid > 0:
    own.add(pid)
    try: pid = int(open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1])
    except (OSError, IndexError): break
for pid in os.listdir("/proc"):
    if not pid.isdigit() or int(pid) == os.getpid():
        continue
    for name in ("environ", "cmdline"):
        try:
            data = open(f"/proc/{pid}/{name}", "rb").read()
        except OSError:
            continue
        found += [(pid, name) for w in words if w in data]
for top in ("/etc", "/run", "/home", "/root", "/var/log", "/dev/shm", "/sys", "/code", "/tmp"):
    for directory, _, files in os.walk(top):
        for name in files:
            path = os.path.join(directory, name)
            try:
                if os.path.getsize(path) < 1 << 20 and os.path.isfile(path):
                    data = open(path, "rb").read()
                    found += [path for w in words if w in data]
            except OSError:
                continue
tell({"found": found, "environment": sorted(os.environ)})
