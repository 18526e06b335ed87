# Threads until there are no more, with processes beside them.
import threading
count = 0
try:
    while count < 100_000:
        threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
        count += 1
except RuntimeError:
    pass
forks = attempt(os.fork)
if forks == 0:
    os._exit(0)
tell({"threads": count, "fork": forks if isinstance(forks, str) else "forked"})
os._exit(0)
