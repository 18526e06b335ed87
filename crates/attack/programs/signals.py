# Every signal to PID 1, by kill, by pidfd and in a hail of those that mean faults; then to everybody.
for _ in range(3):
    for number in range(1, 65):
        libc.kill(1, number)
        fd = raw(434, 1, 0)
        if fd >= 0:
            raw(424, fd, number, 0, 0)
            os.close(fd)
for _ in range(200):
    for number in (7, 11, 4, 8, 5, 31, 6, 17, 13):
        raw(62, 1, number)
for task in attempt(os.listdir, "/proc/1/task"):
    for number in range(1, 65):
        raw(234, 1, int(task), number)
info = struct.pack("<iiiiQ", 11, 0, -1, 0, 0x1000) + b"\0" * 104
for number in (7, 11, 17):
    raw(129, 1, number, info)
tell("sent")
