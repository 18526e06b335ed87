# A server that writes down the request lines that it sees, believing Transfer-Encoding alone.
import threading
log = open(sys.argv[1], "a", buffering=1)
def serve(connection):
    data = b""
    connection.settimeout(2)
    try:
        while True:
            while b"\r\n\r\n" not in data:
                more = connection.recv(65536)
                if not more: return
                data += more
            head, data = data.split(b"\r\n\r\n", 1)
            lines = head.split(b"\r\n")
            log.write(lines[0].decode("latin1") + "\n")
            names = {l.split(b":", 1)[0].strip().lower(): l.split(b":", 1)[1].strip() for l in lines[1:] if b":" in l}
            if b"chunked" in names.get(b"transfer-encoding", b"").lower():
                while b"0\r\n\r\n" not in data:
                    more = connection.recv(65536)
                    if not more: break
                    data += more
                data = data.split(b"0\r\n\r\n", 1)[-1]
            else:
                length = int(names.get(b"content-length", b"0") or 0)
                while len(data) < length:
                    more = connection.recv(65536)
                    if not more: break
                    data += more
                data = data[length:]
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    except (OSError, ValueError):
        pass
    finally:
        connection.close()
listener = socket.socket(); listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); listener.bind(("127.0.0.1", 9091)); listener.listen(64)
open(sys.argv[2], "w").close()
while True:
    connection, _ = listener.accept()
    threading.Thread(target=serve, args=(connection,), daemon=True).start()
