# Signals ignored, double forks, sessions of their own; the argument marks what stays.
import signal
for depth in range(6):
    if os.fork():
        if depth == 0:
            time.sleep(0.5); os._exit(0)
        continue
    os.setsid()
    for number in range(1, 65):
        try: signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError): pass
    os.closerange(0, 100)
    if os.fork() == 0:
        os.execvp("sleep", ["sleep", sys.argv[1]])
