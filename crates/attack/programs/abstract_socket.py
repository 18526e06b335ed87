# A name that only the network namespace keeps apart (containerd-shim, X11).
name = sys.argv[1]
tell({"connect": attempt(socket.socket(socket.AF_UNIX).connect, "\0" + name), "listed": open("/proc/net/unix").read().count(name)})
