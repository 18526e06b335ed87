# Open files until there are no more, and sockets that carry sockets.
import array, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
held, carried = [], "carried"
pair = socket.socketpair()
try:
    for _ in range(2000):
        a, b = socket.socketpair()
        a.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [pair[0].fileno()] * 200))])
        held.append((a, b))
except OSError as error:
    carried = errno.errorcode[error.errno]
opened, end = 0, "many"
try:
    while opened < 5_000_000:
        os.open("/dev/null", os.O_RDONLY); opened += 1
except OSError as error:
    end = errno.errorcode[error.errno]
tell({"carried": carried, "opened": opened, "end": end})
