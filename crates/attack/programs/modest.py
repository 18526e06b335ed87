# One of each of what a neighbour hoards.
class Event(ctypes.Structure):
    _fields_ = [("value", ctypes.c_long), ("signal", ctypes.c_int), ("notify", ctypes.c_int), ("rest", ctypes.c_byte * 48)]
event, timer = Event(0, 0, 1), ctypes.c_int()
tell({
    "inotify": raw(294, 0) >= 0, "timer": raw(222, 1, ctypes.byref(event), ctypes.byref(timer)) >= 0,
    "queue": raw(240, b"mine", os.O_CREAT | os.O_RDWR, 0o600, 0) >= 0, "terminal": isinstance(attempt(os.openpty), tuple),
})
