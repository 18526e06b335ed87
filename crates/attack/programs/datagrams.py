# Sends a datagram to each `address|port` and tells how each fared.
def send(text):
    address, port = text.split("|")
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(1)
    s.connect((address, int(port)))
    s.send(b"\xc3" + bytes(1199))
    return s.recv(100).hex()
tell([attempt(send, text) for text in sys.argv[1:]])
