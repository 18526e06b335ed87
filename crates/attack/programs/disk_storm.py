# Small writes, each brought to the disk, from four processes.
end = time.monotonic() + float(sys.argv[1])
open("/tmp/storming", "w").close()
for number in range(3):
    if os.fork() == 0:
        break
fd = os.open(f"/tmp/storm{os.getpid()}", os.O_CREAT | os.O_RDWR)
count = 0
while time.monotonic() < end:
    os.pwrite(fd, os.urandom(65536), (count % 256) * 65536)
    os.fsync(fd)
    count += 1
os._exit(0)
