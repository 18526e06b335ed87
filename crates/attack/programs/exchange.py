# Exchanges two paths again and again: a directory and a link to where the host keeps its own.
ours, theirs, seconds = sys.argv[1].encode(), sys.argv[2].encode(), float(sys.argv[3])
end, count = time.monotonic() + seconds, 0
while time.monotonic() < end:
    for _ in range(500):
        libc.renameat2(-100, ours, -100, theirs, 2)
        count += 1
tell(count)
