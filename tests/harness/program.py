"""Runs command-line programs as a user would: arguments in, streams and exit code out."""

import json
import os
import subprocess


class Program:
    def __init__(self, command, environment):
        self.command, self.environment = command, environment

    def __call__(self, *arguments, stdin="", code=0, timeout=120):
        done = subprocess.run(
            [*self.command, *map(str, arguments)],
            input=stdin,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if code is not None:
            assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *arguments, **options):
        return json.loads(self(*arguments, "--json", **options).stdout)


def soulbox():
    """Our own binary, pointed at the running server by its data directory."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("E2B_")}
    return Program([os.environ["SOULBOX_BIN"], "--data-dir", os.environ["SOULBOX_DATA_DIR"]], environment)
