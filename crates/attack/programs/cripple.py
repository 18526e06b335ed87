# Root inside takes the agent's limits, processors and priority away.
class Limit(ctypes.Structure):
    _fields_ = [("soft", ctypes.c_ulong), ("hard", ctypes.c_ulong)]
none = Limit(0, 0)
tell("trying")
for resource in (7, 6, 1, 9):
    raw(302, 1, resource, ctypes.byref(none), 0)
raw(144, 1, 5, ctypes.byref(ctypes.c_int(0)))
raw(141, 0, 1, 19)
attempt(lambda: open("/proc/1/oom_score_adj", "w").write("1000"))
