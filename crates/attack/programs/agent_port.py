# A process that takes the agent's port.
binds = [attempt(socket.socket().bind, ("0.0.0.0", 49983)), attempt(socket.socket().bind, ("127.0.0.1", 49983))]
thief = socket.socket()
thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
binds.append(attempt(thief.bind, ("127.0.0.1", 49983)))
tell(binds)
