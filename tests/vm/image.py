"""What a guest boots from: a small initramfs, a disk with the userland, a disk with what is tested."""

import shutil
import stat
import subprocess
from pathlib import Path

from debian import module_content, module_files

# Enough to reach the disks; the guest loads the rest by itself, as a machine would.
BOOT_MODULES = ["virtio_pci", "virtio_blk", "ext4"]

LOADER = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for module in /modules/*; do /bin/busybox insmod $module; done
for _ in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/vdb ] && break; /bin/busybox sleep 1; done
/bin/busybox mount -t ext4 -o noatime /dev/vda /root || /bin/busybox poweroff -f
/bin/busybox mount -t ext4 -o ro /dev/vdb /root/mnt || /bin/busybox poweroff -f
/bin/busybox umount /dev
exec /bin/busybox switch_root /root /bin/sh /mnt/guest/init
"""


def initramfs(kernel, userland, to):
    """Writes a cpio archive (`newc`) that loads the disks' drivers and goes on to the userland."""
    archive = Cpio()
    for name in ("bin", "dev", "root", "modules"):
        archive.add(name, stat.S_IFDIR | 0o755)
    archive.add("bin/busybox", stat.S_IFREG | 0o755, (userland / "bin/busybox").read_bytes())
    archive.add("init", stat.S_IFREG | 0o755, LOADER.encode())
    for number, path in enumerate(module_files(kernel, BOOT_MODULES)):
        archive.add(f"modules/{number:02}.ko", stat.S_IFREG | 0o644, module_content(path))
    to.write_bytes(archive.end())
    return to


class Cpio:
    def __init__(self):
        self.parts, self.count = [], 0

    def add(self, name, mode, content=b""):
        self.count += 1
        encoded = name.encode() + b"\0"
        fields = [self.count, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0]
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        self.parts += [padded(head), padded(content)]

    def end(self):
        self.add("TRAILER!!!", 0)
        return b"".join(self.parts)


def padded(data):
    return data + b"\0" * (-len(data) % 4)


def disk(tree, to, size):
    """An ext4 image of `size` bytes, sparse, with the content of the directory `tree`."""
    partial = to.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    with partial.open("wb") as file:
        file.truncate(size)
    # Without lazy work the guest's first minutes are its own.
    command = ["mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-d", tree, partial]
    subprocess.run(command, check=True, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    partial.rename(to)
    return to


def userland_disk(userland, to):
    """The root disk with room for a sandbox store; made once for each userland."""
    if not to.exists() or to.stat().st_mtime < userland.with_name(userland.name + ".complete").stat().st_mtime:
        disk(userland, to, 8 << 30)
    return to


def payload_disk(kernel, work, tree):
    """The second disk: modules of this kernel and everything in `tree` (name → path on this machine)."""
    staged = work / "payload"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    for name, source in tree.items():
        target = staged / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if Path(source).is_dir():
            shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)
    shutil.copytree(kernel.modules, staged / "modules" / kernel.release, symlinks=True, ignore=shutil.ignore_patterns("build", "source"))
    return disk(staged, work / "payload.img", 1 << 30)
