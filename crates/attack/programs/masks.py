# runc CVE-2025-31133, -52565, -52881: the masks of /proc are the null device, and stay.
masked = ["kcore", "keys", "key-users", "timer_list", "sysrq-trigger", "kallsyms", "kmsg", "cmdline", "iomem", "interrupts", "diskstats"]
masks = {}
for name in masked:
    path = "/proc/" + name
    if os.path.lexists(path):
        stat = os.stat(path)
        tries = [attempt(os.unlink, path), attempt(os.rename, path, "/tmp/x"), attempt(os.symlink, "/tmp/x", path), call(166, path.encode(), 2)]
        masks[name] = {"null": (os.major(stat.st_rdev), os.minor(stat.st_rdev)) == (1, 3), "tries": tries}
devices = [attempt(os.unlink, "/dev/null"), attempt(os.symlink, "/proc/sysrq-trigger", "/dev/null2"), attempt(os.rename, "/dev/pts", "/dev/x")]
tell({"masks": masks, "devices": devices, "console": os.path.exists("/dev/console")})
