# runc CVE-2019-5736: the executable of the agent, and of what it starts, opened for writing while commands start.
direct = sorted({str(attempt(os.open, "/proc/1/exe", flags)) for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_PATH)})
end, seen, held = time.monotonic() + 2, 0, []
while time.monotonic() < end:
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or int(pid) == os.getpid():
            continue
        seen += 1
        fd = attempt(os.open, f"/proc/{pid}/exe", os.O_PATH)
        if isinstance(fd, int):
            if "agent" in os.readlink(f"/proc/self/fd/{fd}"):
                held.append([pid, str(attempt(os.open, f"/proc/self/fd/{fd}", os.O_WRONLY))])
            os.close(fd)
tell({"direct": direct, "seen": seen, "held": held})
