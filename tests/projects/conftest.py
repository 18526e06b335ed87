"""Templates that are derived, runtimes and projects, all through our own binary and plain HTTP."""

import base64
import json
import os
import time
from pathlib import Path

import httpx
import pytest

from harness import program

TEMPLATE = os.environ.get("SOULBOX_TEST_TEMPLATE", "base")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

needs_base = pytest.mark.skipif(TEMPLATE != "base", reason="runtimes stand on the base template")


@pytest.fixture(scope="session")
def soulbox():
    return program.soulbox()


class Api:
    def __init__(self):
        headers = {"X-API-Key": os.environ["E2B_API_KEY"]}
        self.http = httpx.Client(base_url=os.environ["E2B_API_URL"], headers=headers, timeout=60)

    def derive(self, parent=TEMPLATE, files=(), steps=(), **more):
        content = [{"path": path, "content": base64.b64encode(text.encode()).decode()} for path, text in files]
        commands = [step if isinstance(step, dict) else {"command": ["sh", "-ec", step]} for step in steps]
        body = {"parent": parent, "files": content, "steps": commands, **more}
        return self.http.post("/soulbox/v1/templates", json=body)

    def derived(self, **what):
        """A template that is ready."""
        answer = self.derive(**what)
        assert answer.status_code in (200, 202), answer.text
        state = self.built(answer.json()["name"])
        assert state["state"] == "ready", state
        return state["name"]

    def built(self, name):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            state = self.http.get(f"/soulbox/v1/templates/{name}").json()
            if state["state"] != "building":
                return state
            time.sleep(0.05)
        raise AssertionError(f"{name} is not built in time")

    def prune(self, unused_for=0):
        answer = self.http.post("/soulbox/v1/templates/prune", json={"unusedFor": unused_for})
        assert answer.status_code == 200, answer.text
        return {template["name"] for template in answer.json()}

    def names(self):
        return {template["name"] for template in self.http.get("/soulbox/v1/templates").json()}


@pytest.fixture(scope="session")
def api():
    return Api()


@pytest.fixture
def sandbox_of(soulbox):
    """Makes sandboxes that end with the test."""
    made = []

    def make(template):
        made.append(soulbox("sandbox", "create", "-t", template).stdout.strip())

        def run(*command, user=None, code=0):
            who = ["--user", user] if user else []
            return soulbox("sandbox", "exec", made[-1], *who, "--", *command, code=code).stdout

        run.id = made[-1]
        return run

    yield make
    for sandbox in made:
        soulbox("sandbox", "kill", sandbox, code=None)


PROJECT = """
[project]
name = "probe"
version = "0.1.0"
[template]
name = "probe"
base_image = "{template}"
[commands]
start = ["sleep", "300"]
"""


@pytest.fixture
def up(soulbox, tmp_path):
    """Starts a project with some keys of its own, detached."""
    (tmp_path / "soulbox.toml").write_text(PROJECT.format(template=TEMPLATE))

    def start(*sets, code=0):
        flags = [word for text in sets for word in ("--set", text)]
        done = soulbox("up", "-d", "--project", tmp_path, *flags, "--json", code=code)

        def run(*command, code=0):
            return soulbox("exec", "--project", tmp_path, "--", *command, code=code)

        run.told = json.loads(done.stdout) if done.stdout else done.stderr
        return run

    yield start
    soulbox("down", "--project", tmp_path)
