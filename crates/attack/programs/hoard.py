# What the kernel shares out to all, taken until there is no more.
class Event(ctypes.Structure):
    _fields_ = [("value", ctypes.c_long), ("signal", ctypes.c_int), ("notify", ctypes.c_int), ("rest", ctypes.c_byte * 48)]
class Queue(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_long), ("length", ctypes.c_long), ("size", ctypes.c_long), ("rest", ctypes.c_long * 5)]
got = {}
def hoard(name, most, take):
    got[name] = 0
    while got[name] < most and take(got[name]):
        got[name] += 1
event, timer = Event(0, 0, 1), ctypes.c_int()
hoard("inotify", 300, lambda n: raw(294, 0) >= 0)
hoard("contexts", 100, lambda n: raw(206, 10000, ctypes.byref(ctypes.c_ulong())) >= 0)
hoard("timers", 120000, lambda n: raw(222, 1, ctypes.byref(event), ctypes.byref(timer)) >= 0)
hoard("queues", 300, lambda n: raw(240, b"q%d" % n, os.O_CREAT | os.O_RDWR, 0o600, ctypes.byref(Queue(0, 10, 8192))) >= 0)
def terminal(n):
    try:
        return os.openpty()
    except OSError:
        return False
hoard("terminals", 4000, terminal)
tell(got)
open("/tmp/hoarded", "w").close()
time.sleep(20)
