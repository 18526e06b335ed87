# Ids outside of the sandbox's range, and attributes that mean something to overlayfs on the host.
path = "/tmp/suid-sleep"
tell({
    "ids": [attempt(os.chown, path, 65536, 0), attempt(os.chown, path, 2**31, 0), attempt(os.setuid, 65536), attempt(os.setresuid, 100000, 0, 0)],
    "attributes": [attempt(os.setxattr, path, "trusted.overlay.metacopy", b""), attempt(os.setxattr, path, "trusted.x", b"x"), attempt(os.mknod, "/tmp/whiteout", 0o020600, 0), attempt(os.mknod, "/tmp/disk", 0o060600, 0x700)],
})
