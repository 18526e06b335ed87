# Opens as many connections as it may and says one byte in each, and asks as many questions as it can,
# for some seconds; where the machine is busy for longer, until there are enough connections to judge by.
import resource
seconds, address = float(sys.argv[1]), sys.argv[2]
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
held, asked, begun = [], 0, time.monotonic()
question = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
question.connect(("8.8.8.8", 53))
question.setblocking(False)
open("/tmp/flooding", "w").close()
while (passed := time.monotonic() - begun) < seconds or len(held) < 1100 and passed < 30:
    if len(held) < 3000:
        s = socket.socket()
        s.setblocking(False)
        attempt(s.connect, (address, 80))
        held.append(s)
    for s in held[-300:]:
        attempt(s.send, b"G")
    for _ in range(50):
        asked += not isinstance(attempt(question.send, os.urandom(2) + b"\1\0\0\1\0\0\0\0\0\0\x10" + os.urandom(8).hex().encode() + b"\0\0\1\0\1"), str)
        attempt(question.recv, 512)
tell({"held": len(held), "asked": asked})
