# Begins a request to an address, and says which host it is for only when it is told to.
address, host = sys.argv[1:]
s = socket.create_connection((address, 80), 5)
s.settimeout(20)
s.sendall(b"GET / HTTP/1.1\r\nHost: ")
open("/tmp/begun", "w").close()
end = time.monotonic() + 8
while not os.path.exists("/tmp/changed") and time.monotonic() < end:
    time.sleep(0.01)
s.sendall(host.encode() + b"\r\n\r\n")
said = attempt(s.recv, 600)
tell(said[:12].decode("latin-1") if isinstance(said, bytes) else said)
