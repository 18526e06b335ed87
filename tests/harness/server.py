"""Starts and stops `soulbox serve` for a test."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path


class Server:
    """One server process on a data directory; `start` and `stop` may alternate."""

    def __init__(self, binary, data_dir, port=None, arguments=(), variables=None):
        self.binary, self.data_dir = str(binary), Path(data_dir)
        self.port = port or free_port()
        self.arguments = list(arguments)
        self.variables = variables or {}
        self.log = self.data_dir.with_name(self.data_dir.name + ".log")
        self.process = None

    @property
    def listen(self):
        return f"127.0.0.1:{self.port}"

    @property
    def url(self):
        return f"http://{self.listen}"

    def start(self, *more, ready_within=60):
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self.binary, "serve", "--data-dir", self.data_dir, "--listen", self.listen, *self.arguments, *more],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**own_environment(), **self.variables},
                start_new_session=True,
            )
        self.wait_until("/health", ready_within)
        return self

    def wait_until(self, path, within):
        """Waits until the server answers `path` with success."""
        deadline = time.monotonic() + within
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}:\n{self.tail()}")
            try:
                with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                    if answer.status < 300:
                        return
            except (urllib.error.URLError, OSError):
                pass
            if time.monotonic() > deadline:
                raise RuntimeError(f"{path} did not answer within {within} s:\n{self.tail()}")
            time.sleep(0.05)

    def stop(self, how=signal.SIGTERM, within=30):
        """Ends the server and returns its exit code."""
        if self.process is None or self.process.poll() is not None:
            return self.process and self.process.returncode
        self.process.send_signal(how)
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise RuntimeError(f"the server did not end within {within} s:\n{self.tail()}") from None

    def run(self, *arguments, code=0, timeout=60, **options):
        """One `soulbox` command on this data directory."""
        done = subprocess.run(
            [self.binary, *arguments, "--data-dir", str(self.data_dir)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=own_environment(),
            **options,
        )
        if code is not None and done.returncode != code:
            raise AssertionError(f"{arguments}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def environment(self):
        """`soulbox env`: what points clients at this server."""
        return json.loads(self.run("env", "--json").stdout)

    def tail(self, lines=40):
        if not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def own_environment():
    """This process's environment without what points at another server."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("E2B_", "SOULBOX_")) or k == "SOULBOX_LOG"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
