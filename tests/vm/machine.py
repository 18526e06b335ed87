"""Runs a guest under QEMU's own processor emulation (TCG): no KVM, no network, results by a serial line."""

import os
import subprocess
import sys
import time

CONSOLE = "console=ttyS0 quiet loglevel=4 panic=-1 oops=panic rdinit=/init"


def boot(kernel, initramfs, disks, work, memory="4G", within=1800, cmdline=""):
    """Boots until the guest turns itself off. Returns the bytes that it wrote to its second serial line."""
    console, results = work / "console.log", work / "results.jsonl"
    for file in (console, results):
        file.unlink(missing_ok=True)
    # QEMU 7.2 emulates `cmpxchg16b` wrongly, which corrupts guests that use it: they do without. More
    # processors than a sandbox may use, so that their limit shows; one thread, as others work here too.
    command = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=single", "-cpu", "max,la57=off,cx16=off", "-smp", "3", "-m", memory]
    command += ["-display", "none", "-monitor", "none", "-nodefaults", "-no-reboot", "-nic", "none"]
    command += ["-serial", f"file:{console}", "-serial", f"file:{results}"]
    command += ["-kernel", kernel.image, "-initrd", initramfs, "-append", f"{CONSOLE} {cmdline}"]
    # What the guest writes goes to a temporary file and is gone with it.
    for disk in disks:
        command += ["-drive", f"file={disk},format=raw,if=virtio,snapshot=on,cache=unsafe"]
    started = time.monotonic()
    guest = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, env={**os.environ, "TMPDIR": str(work)})
    try:
        shown = 0
        while guest.poll() is None:
            if time.monotonic() - started > within:
                raise TimeoutError(f"the guest did not end within {within} s; its console: {console}")
            time.sleep(1)
            shown = follow(results, shown)
        follow(results, shown)
    finally:
        if guest.poll() is None:
            guest.kill()
            guest.wait()
    return results.read_text(errors="replace") if results.exists() else ""


def follow(results, shown):
    """Prints what has come since; returns how much there is."""
    if not results.exists():
        return shown
    text = results.read_text(errors="replace")
    end = text.rfind("\n") + 1
    for line in text[shown:end].splitlines():
        print(f"  {line[:200]}", file=sys.stderr, flush=True)
    return max(end, shown)
