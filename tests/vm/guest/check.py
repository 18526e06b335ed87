"""Runs inside the guest: the server on this kernel, asked by its own command line and plain HTTP.

Needs Python alone. Each check writes one JSON line to the second serial port, which the machine
outside keeps: `id`, `title`, `result` (passed, failed, skipped), `why`, `seconds`.
"""

import json
import os
import platform
import subprocess
import sys
import time
import traceback
from pathlib import Path

PAYLOAD = Path("/mnt")
sys.path.insert(0, str(PAYLOAD / "tests"))
sys.path.insert(0, str(PAYLOAD / "guest"))

from harness.server import Server  # noqa: E402

GROUPS = Path("/sys/fs/cgroup")
DATA = Path("/var/lib/soulbox")
LINE = Path("/dev/ttyS1")


def tell(record):
    with LINE.open("a") as line:
        line.write(json.dumps(record) + "\n")


def serve_as_a_service():
    """This process, and so the server, lies in a cgroup like a service's, not in the root."""
    service = GROUPS / "system.slice/soulbox.service"
    service.mkdir(parents=True)
    (service / "cgroup.procs").write_text(str(os.getpid()))


def facts():
    """What this machine is."""
    return {
        "id": "machine",
        "kernel": platform.release(),
        "version": platform.version(),
        "controllers": (GROUPS / "cgroup.controllers").read_text().split(),
        "processors": os.cpu_count(),
    }


def run(all_checks, world):
    """Tells what came of each check; false if the server cannot even start."""
    import checks

    for check in all_checks:
        began = time.monotonic()
        record = {"id": check.__name__, "title": (check.__doc__ or "").strip()}
        try:
            record |= {"result": "passed", "why": check(world) or ""}
        except checks.Skip as skip:
            record |= {"result": "skipped", "why": str(skip)}
        except BaseException as error:  # noqa: BLE001: whatever goes wrong is a result
            record |= {"result": "failed", "why": f"{type(error).__name__}: {error}".strip()[:3000]}
            traceback.print_exc()
        record["seconds"] = round(time.monotonic() - began, 1)
        tell(record)
        if check is checks.start and record["result"] == "failed":
            return False
    return True


def main():
    tell(facts())
    serve_as_a_service()
    import checks

    import suites

    world = checks.World(Server(PAYLOAD / "soulbox", DATA, arguments=["--no-base"]))
    started = run(checks.FIRST, world)
    if started:
        for suite in suites.present():
            tell(suites.run(suite, world.server))
    if started:
        run(checks.LAST, world)
    print(world.server.tail(200))
    print(subprocess.run(["dmesg"], capture_output=True, text=True).stdout[-4000:])
    tell({"id": "end"})


if __name__ == "__main__":
    main()
