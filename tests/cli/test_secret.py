"""`soulbox secret`: values go in by a pipe or a file, and never come out."""

import json
import os
import uuid
from pathlib import Path

import pytest

DATA_DIR = Path(os.environ["SOULBOX_DATA_DIR"])


@pytest.fixture
def name(soulbox):
    name = f"cli_{uuid.uuid4().hex[:12]}"
    yield name
    soulbox("secret", "rm", name, code=None)


@pytest.fixture
def value():
    return f"v4lue-{uuid.uuid4().hex}"


def listed(soulbox, name):
    return [secret for secret in json.loads(soulbox("secret", "list", "--json").stdout) if secret["name"] == name]


def files():
    """Everything the server keeps, but the file systems of sandboxes and templates."""
    kept = [p for p in DATA_DIR.iterdir() if p.is_file() and p.name != "store.img"]
    return [*kept, DATA_DIR.with_name(DATA_DIR.name + ".log")]


def test_set_list_and_rm(soulbox, name, value, tmp_path):
    made = soulbox("secret", "set", name, "--host", "API.example.com", "-m", "a=b", stdin=value + "\n")
    assert made.stdout.startswith("sec_") and value not in made.stdout + made.stderr
    [found] = listed(soulbox, name)
    assert (found["currentVersion"], found["hosts"], found["metadata"]) == (1, ["api.example.com"], {"a": "b"})
    file = tmp_path / "value"
    file.write_text(value + "\r\n")
    soulbox("secret", "set", name, "--from-file", str(file))
    soulbox("secret", "set", name, "--keep-value", "--any-host")
    [found] = listed(soulbox, name)
    assert (found["currentVersion"], found["hosts"]) == (2, [])
    table = soulbox("secret", "ls").stdout
    assert name in table and value not in table
    assert soulbox("secret", "rm", name).stdout == name + "\n"
    assert not listed(soulbox, name)
    assert json.loads(soulbox("secret", "rm", name, "--json", code=3).stdout) == {"deleted": [], "missing": [name]}


def test_the_value_reaches_an_environment_as_it_was_given(soulbox, template, name, value):
    tricky = f"{value}$HOME `id` \"'\\ é"
    for given, flags, expected in [(tricky + "\n", [], tricky), (tricky + "\n", ["--raw"], tricky + "\n")]:
        soulbox("secret", "set", name, *flags, stdin=given)
        made = soulbox("sandbox", "create", "-t", template, "--secret", f"KEY={name}", "-e", "PRICE=5$")
        sandbox = made.stdout.strip()
        try:
            done = soulbox("sandbox", "exec", sandbox, "--", "sh", "-c", 'printf "%s|%s" "$KEY" "$PRICE"')
            assert done.stdout == f"{expected}|5$"
        finally:
            soulbox("sandbox", "kill", sandbox)


def test_a_bound_secret_stays_out_of_environments(soulbox, template, name, value):
    soulbox("secret", "set", name, "--host", "api.example.com", stdin=value)
    failed = soulbox("sandbox", "create", "-t", template, "--secret", f"KEY={name}", code=2)
    assert name in failed.stderr and "envVars.KEY" in failed.stderr and value not in failed.stderr


def test_what_is_wrong_says_so(soulbox, name, value):
    for arguments in [("bad name",), (name, "--host", "a b"), (name, "--host", "*"), (name, "--host", "x.y", "--any-host"), ("sec_x",)]:
        failed = soulbox("secret", "set", *arguments, stdin=value, code=None)
        assert failed.returncode in (2, 3) and value not in failed.stderr, arguments
    for bad in ["", "\n", "a\0b", "x" * (64 * 1024 + 1)]:
        soulbox("secret", "set", name, stdin=bad, code=2)
    soulbox("secret", "set", name, "--keep-value", code=2)
    soulbox("secret", "set", name, "--from-file", "/nonexistent", code=3)
    # There is no way to give it on the command line, where every process sees it.
    soulbox("secret", "set", name, value, code=2)
    assert not listed(soulbox, name)


def test_a_new_key_changes_nothing_for_users(soulbox, template, name, value):
    soulbox("secret", "set", name, stdin=value)
    before = (DATA_DIR / "vault.key").read_text()
    rotated = json.loads(soulbox("secret", "rotate-key", "--json").stdout)
    after = (DATA_DIR / "vault.key").read_text()
    assert rotated["secrets"] >= 1 and after.startswith(rotated["key_id"]) and before != after
    assert len(after.splitlines()) == 1
    assert (DATA_DIR / "vault.key").stat().st_mode & 0o777 == 0o600
    sandbox = soulbox("sandbox", "create", "-t", template, "--secret", f"KEY={name}").stdout.strip()
    assert soulbox("sandbox", "exec", sandbox, "--", "sh", "-c", "echo $KEY").stdout == value + "\n"
    soulbox("sandbox", "kill", sandbox)


def test_the_value_is_in_no_file_and_no_log(soulbox, template, name, value):
    soulbox("secret", "set", name, stdin=value)
    sandbox = soulbox("sandbox", "create", "-t", template, "--secret", f"KEY={name}").stdout.strip()
    soulbox("sandbox", "exec", sandbox, "--", "true")
    soulbox("sandbox", "create", "-t", template, "--secret", f"KEY={name}x", code=2)
    told = [soulbox("sandbox", what, sandbox, "--json").stdout for what in ("info", "logs", "metrics")]
    soulbox("secret", "rotate-key")
    soulbox("sandbox", "kill", sandbox)
    assert not [text for text in told if value in text]
    seen = {path.name for path in files()}
    assert {"soulbox.db", "soulbox.db-wal", "vault.key", "server.log"} <= seen
    forms = [value.encode(), value.encode().hex().encode()]
    assert not [path for path in files() for form in forms if form in path.read_bytes()]


def test_the_address_of_a_private_port(soulbox, template):
    sandbox = soulbox("sandbox", "create", "-t", template, "--private").stdout.strip()
    url = soulbox("sandbox", "url", sandbox, "8000").stdout.strip()
    assert f"://8000-{sandbox}." in url and "?e2b-traffic-access-token=" in url
    soulbox("sandbox", "url", sandbox, "0", code=2)
    soulbox("sandbox", "url", sandbox, "8000", "--valid", "25h", code=2)
    soulbox("sandbox", "kill", sandbox)
    public = soulbox("sandbox", "create", "-t", template, "--mask-host", "localhost:${PORT}").stdout.strip()
    told = json.loads(soulbox("sandbox", "url", public, "8000", "--json").stdout)
    assert "?" not in told["url"] and told["expires_at"] is None
    soulbox("sandbox", "kill", public)
    soulbox("sandbox", "create", "-t", template, "--mask-host", "a b", code=2)
