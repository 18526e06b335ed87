# A server that breaks every rule of HTTP, one rule per connection.
import threading
ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"a" * (4 << 20),
    b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(5000)) + b"\r\n",
    b"\x00" * 100000, b"HTTP/9.9 999 Z\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: evil\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: evil\r\n\r\n" + b"z" * 100, b"HTTP/1.1 100 Continue\r\n\r\n" * 5000,
    b"",
]
def serve(connection, answer):
    with connection:
        connection.recv(65536)
        try: connection.sendall(answer)
        except OSError: pass
listener = socket.socket(); listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); listener.bind(("127.0.0.1", 9090)); listener.listen(64)
open(sys.argv[1], "w").close()
while True:
    for answer in ANSWERS:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, answer), daemon=True).start()
