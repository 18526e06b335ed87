# Leaves traces of every kind behind; the first argument is the word that they hold.
import subprocess
mark = sys.argv[1]
planted = []
def plant(name, act):
    try:
        act()
        planted.append(name)
    except Exception as error:
        planted.append(f"not {name}: {error}")
def write(path, text=None):
    def act():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "w").write(text or mark)
        os.chmod(path, 0o6777)
        attempt(os.setxattr, path, "user.mark", mark.encode())
    plant(path, act)
for place in ("/etc", "/etc/profile.d", "/etc/cron.d", "/etc/skel", "/root", "/home/user", "/tmp", "/var/tmp", "/run", "/code", "/dev/shm", "/opt", "/srv", "/mnt", "/var/spool/cron", "/usr/local/bin", "/home/user/.ssh"):
    write(f"{place}/{mark}")
write("/etc/ld.so.preload.d", mark)
plant("passwd", lambda: open("/etc/passwd", "a").write(f"{mark}:x:0:0::/:/bin/sh\n"))
plant("hosts", lambda: open("/etc/hosts", "a").write(f"127.0.0.1 {mark}\n"))
plant("profile", lambda: open("/home/user/.profile", "a").write(f"export MARK={mark}\n"))
for number in range(20):
    raw(29, 0x5b00 + number, 65536, 0o3666)
    raw(68, 0x5b00 + number, 0o3666)
    raw(64, 0x5b00 + number, 1, 0o3666)
planted.append("SysV")
plant("mqueue", lambda: raw(240, mark.encode()[:60], os.O_CREAT | os.O_RDWR, 0o666, 0))
plant("root's mode", lambda: os.chmod("/", 0o777))
plant("tmp's mode", lambda: os.chmod("/tmp", 0o700))
held = []
def listen(family, address):
    s = socket.socket(family)
    s.bind(address); s.listen()
    held.append(s)
plant("abstract socket", lambda: listen(socket.AF_UNIX, "\0" + mark))
plant("socket file", lambda: listen(socket.AF_UNIX, f"/tmp/{mark}.socket"))
plant("port", lambda: listen(socket.AF_INET, ("0.0.0.0", 7777)))
plant("process", lambda: subprocess.Popen(["/bin/sh", "-c", f"trap '' TERM; while :; do sleep 1; done # {mark}"], start_new_session=True))
plant("memory", lambda: held.append((mark * 4096).encode() * 200))
plant("disk", lambda: open("/home/user/fill", "wb").write(mark.encode() * (4 << 20)))
tell(planted)
time.sleep(0.2)
os.execvp("sleep", [mark, "300"])
