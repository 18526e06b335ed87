# Burns as many processors as there are, and more; tells what it got.
import multiprocessing, resource
def burn(_):
    end = time.monotonic() + 3
    while time.monotonic() < end:
        pass
started = time.monotonic()
processes = [multiprocessing.Process(target=burn, args=(0,)) for _ in range(int(sys.argv[1]))]
open("/tmp/burning", "w").close()
[p.start() for p in processes]; [p.join() for p in processes]
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
tell((usage.ru_utime + usage.ru_stime) / (time.monotonic() - started))
