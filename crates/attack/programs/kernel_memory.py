# Memory that is in no process: memfd, SysV segments, pipes, sockets, as much as there is. Each kind in a child of its own.
import fcntl, signal
limit = int(sys.argv[1])
kind = sys.argv[2]
held = 0
chunk = b"x" * (1 << 20)
try:
    if kind == "memfd":
        fd = raw(319, b"m", 0)
        while held < limit * 2:
            held += os.write(fd, chunk)
    elif kind == "hugetlb":
        fd = raw(319, b"m", 4)
        if fd >= 0:
            os.ftruncate(fd, limit * 2)
            libc.mmap.restype = ctypes.c_void_p
            address = libc.mmap(None, ctypes.c_size_t(limit * 2), 3, 1, fd, 0)
            if address not in (None, 2**64 - 1):
                for at in range(0, limit * 2, 2 << 20):
                    ctypes.memset(address + at, 1, 1); held += 2 << 20
    elif kind == "shm":
        libc.shmat.restype = ctypes.c_void_p
        while held < limit * 2:
            shm = raw(29, 0, 64 << 20, 0o3600)
            if shm < 0: break
            address = libc.shmat(shm, None, 0)
            if address in (None, 2**64 - 1): break
            ctypes.memset(address, 1, 64 << 20); held += 64 << 20
    elif kind == "pipes":
        while held < limit * 2:
            r, w = os.pipe()
            size = 65536
            try: size = fcntl.fcntl(w, 1031, 1 << 20)
            except OSError: pass
            os.set_blocking(w, False)
            try:
                while True: held += os.write(w, chunk)
            except BlockingIOError: pass
    elif kind == "sockets":
        while held < limit * 2:
            a, b = socket.socketpair()
            a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 24)
            a.setblocking(False)
            try:
                while True: held += a.send(chunk)
            except BlockingIOError: pass
except (OSError, ValueError) as error:
    tell({"held": held, "error": str(error)})
else:
    tell({"held": held})
