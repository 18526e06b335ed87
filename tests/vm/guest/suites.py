"""The end-to-end suites that look at the host's side, inside the guest."""

import os
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

PAYLOAD = Path("/mnt")
WORK = Path("/var/tmp/suites")
ALL = ["engine", "attack"]

# What cannot be asked here: the guest has no address of its own that sandboxes could try, and an emulated
# processor that a fork bomb shares is too slow for limits in seconds.
NOT_HERE = [
    "test_namespaces.py::test_the_machine_is_not_reached",
    "test_limits.py::test_a_fork_bomb_stays_inside",
]


def present():
    """Those that were brought along."""
    return [suite for suite in ALL if (PAYLOAD / "tests" / suite).exists()]


def run(suite, server):
    """Runs one and returns its counts and the names of what failed."""
    began = time.monotonic()
    WORK.mkdir(exist_ok=True)
    report = WORK / f"{suite}.xml"
    environment = {
        **os.environ,
        **server.environment(),
        "PYTHONPATH": str(PAYLOAD / "site"),
        "PYTHONDONTWRITEBYTECODE": "1",
        # The client wants to know authorities, though it speaks plain HTTP here.
        "SSL_CERT_FILE": str(PAYLOAD / "site/certifi/cacert.pem"),
        "SOULBOX_BIN": server.binary,
        "SOULBOX_DATA_DIR": str(server.data_dir),
        "SOULBOX_SERVER_PID": str(server.process.pid),
        "SOULBOX_TEST_TEMPLATE": "host",
        "SOULBOX_TEST_WORK": str(WORK),
        "SOULBOX_TEST_PATIENCE": "8",
    }
    command = ["python3", "-m", "pytest", f"--junitxml={report}", "--tb=short", "-p", "no:cacheprovider", "-q", "--durations=5"]
    command += [f"--deselect={test}" for test in NOT_HERE]
    subprocess.run(command, cwd=PAYLOAD / "tests" / suite, env=environment, stdin=subprocess.DEVNULL)
    record = {"id": f"suite {suite}", "passed": 0, "failed": 1, "skipped": 0, "failures": ["no report"]}
    if report.exists():
        record |= read(report)
    return record | {"seconds": round(time.monotonic() - began)}


def read(report):
    suite = ElementTree.parse(report).getroot().find("testsuite")
    count = {key: int(suite.get(key)) for key in ("tests", "failures", "errors", "skipped")}
    failed = count["failures"] + count["errors"]
    names = [
        f"{case.get('classname')}::{case.get('name')}: {bad.get('message', '')[:300]}"
        for case in suite.iter("testcase")
        for bad in [*case.findall("failure"), *case.findall("error")]
    ]
    return {"passed": count["tests"] - failed - count["skipped"], "failed": failed, "skipped": count["skipped"], "failures": names}
