"""What `[network]` of soulbox.toml lets a project reach, from the first command of its sandbox on."""

import json

import pytest
from world import OTHER

from harness.own import TEMPLATE

PROJECT = f"""
[project]
name = "rules"
version = "0.1.0"

[template]
name = "rules"
base_image = "{TEMPLATE}"

[commands]
start = ["sh", "calls.sh"]
test = ["sh", "calls.sh"]

[network]
allow_internet = false
allow_out = ["*.example.com"]

[network.requests]
allow = ["GET api.example.com/v1/*"]
per_minute = {{ "www.example.com" = 2 }}
"""
CALLS = f"""
call() {{ curl -s -m 10 -o /tmp/answer -w '%{{http_code}}\\n' "$@"; grep -a . /tmp/answer | head -n 1 >&2; }}
call https://api.example.com/v1/x
call https://api.example.com/v2
call -d body https://api.example.com/v1/x
call http://other.org/
call http://{OTHER}/
call http://www.example.com/
call http://www.example.com/
call http://www.example.com/
"""
# A name that may not be asked for does not exist.
ANSWERS = ["200", "403", "403", "000", "403", "200", "200", "429"]


@pytest.fixture
def project(tmp_path):
    (tmp_path / "soulbox.toml").write_text(PROJECT)
    (tmp_path / "calls.sh").write_text(CALLS)
    return tmp_path


@pytest.mark.parametrize("command", ["run", "test"])
def test_a_project_reaches_what_its_file_allows(trusting, world, project, command):
    mark = world.mark()
    done = trusting.run(command, "--project", str(project))
    answers = [line for line in done.stdout.splitlines() if line.isdigit()]
    assert answers == ANSWERS, done.stdout + done.stderr
    for words in ("no request rule allows GET /v2", "may only reach hosts that are allowed by name", "its rules let it ask 2 times a minute"):
        assert words in done.stderr, done.stderr
    assert [(seen["host"], seen["path"]) for seen in world.seen(mark, what="http")] == [
        ("api.example.com", "/v1/x"), ("www.example.com", "/"), ("www.example.com", "/"),
    ]  # fmt: skip


def test_an_override_holds_instead_of_the_file(trusting, project):
    sets = ["--set", "network.requests.allow=GET,POST api.example.com/v1/*", "--set", 'network.allow_out=["*.example.com", "other.org"]']
    done = trusting.run("run", "--project", str(project), *sets)
    answers = [line for line in done.stdout.splitlines() if line.isdigit()]
    assert answers[2:4] == ["200", "200"], done.stdout + done.stderr


def test_check_tells_of_rules_that_an_address_gets_around(trusting, project):
    check = ["config", "check", "--project", str(project), "--json"]
    assert json.loads(trusting.run(*check).stdout)["warnings"] == []
    [warning] = json.loads(trusting.run(*check, "--set", "network.allow_internet=true", "--set", "network.allow_out=[]").stdout)["warnings"]
    assert "by its address" in warning
    open_beside = trusting.run(*check, "--set", "network.allow_internet=true", code=2)
    [problem] = json.loads(open_beside.stdout)["problems"]
    assert (problem["kind"], problem["field"]) == ("conflict", "network.allow_out")
