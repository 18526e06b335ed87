# The client of `soulbox bench network`, the same inside and outside: address, port, what to do, numbers.
import json, os, resource, select, socket, ssl, sys, time
address, port, what, *numbers = sys.argv[1:]
port, numbers = int(port), [int(number) for number in numbers]
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

def connect():
    stream = socket.create_connection((address, port), 10)
    try:
        greeted = stream.recv(1) == b"+"
    except ConnectionError:
        greeted = False
    if not greeted:
        sys.exit("refused")
    return stream

def first(count):
    taken = []
    for _ in range(count):
        began = time.perf_counter_ns()
        stream = connect()
        taken.append(time.perf_counter_ns() - began)
        stream.close()
        time.sleep(0.001)
    return taken

def sealed(count):
    # Trusts what SSL_CERT_FILE names.
    context, name = ssl.create_default_context(), "bench.example.com"
    request = f"GET / HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n".encode()
    taken = []
    for _ in range(count):
        began = time.perf_counter_ns()
        stream = context.wrap_socket(socket.create_connection((address, port), 10), server_hostname=name)
        stream.sendall(request)
        said = stream.recv(4096)
        taken.append(time.perf_counter_ns() - began)
        if not said.startswith(b"HTTP/1.1 200 "):
            sys.exit(said.decode("latin-1"))
        stream.close()
        time.sleep(0.001)
    return taken

def down(flows, mebibytes, processor):
    os.sched_setaffinity(0, {processor})
    each = (mebibytes << 20) // flows
    streams, poll, buffer = {}, select.epoll(), bytearray(1 << 18)
    for _ in range(flows):
        stream = connect()
        streams[stream.fileno()] = [stream, each]
        poll.register(stream, select.EPOLLIN)
    began = time.perf_counter_ns()
    for stream, _ in streams.values():
        stream.sendall(b"%d\n" % each)
    while streams:
        for fd, _ in poll.poll():
            known = streams[fd]
            got = known[0].recv_into(buffer)
            if got == 0:
                sys.exit("cut")
            known[1] -= got
            if known[1] == 0:
                poll.unregister(fd)
                del streams[fd]
    return [time.perf_counter_ns() - began]

def hold(flows):
    held = [connect() for _ in range(flows)]
    print(json.dumps([len(held)]), flush=True)
    time.sleep(60)

found = {"first": first, "sealed": sealed, "down": down, "hold": hold}[what](*numbers)
print(json.dumps(found), flush=True)
