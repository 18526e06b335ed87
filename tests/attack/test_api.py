"""Keys, tokens and signatures: every route without a right key, and every right key on another's things."""

import hashlib
import os
import re
import secrets
import sqlite3
import stat
import time
import uuid
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

import httpx
import pytest

from conftest import Agent, attack, is_well, output

URL = os.environ.get("E2B_API_URL", "").rstrip("/")
KEY = os.environ.get("E2B_API_KEY", "")
CLIENT = httpx.Client()
DATA_DIR = Path(os.environ.get("SOULBOX_DATA_DIR", "/nonexistent"))

# Routes that are open to everybody: health, the description, and what answers 501 to everybody.
OPEN = {"/health", "/ready", "/soulbox/v1/openapi.json"}
OPEN_501 = ("/volumecontent/", "/access-tokens", "/nodes")


def routes():
    document = httpx.get(URL + "/soulbox/v1/openapi.json", timeout=20).json()
    return [(method.upper(), path) for path, item in document["paths"].items() for method in item if method in ("get", "post", "put", "patch", "delete")]


def fill(path, sandbox_id="i" + "0" * 20, other="00000000-0000-4000-8000-000000000000"):
    return re.sub(r"\{(\w+)\}", lambda m: sandbox_id if m[1] == "sandboxID" else other, path)


def request(method, path, key=None, **options):
    headers = {**({"X-API-Key": key} if key is not None else {}), **options.pop("headers", {})}
    if method in ("POST", "PUT", "PATCH"):
        options.setdefault("json", {})
    return CLIENT.request(method, URL + path, headers=headers, timeout=30, **options)


WRONG_KEYS = {
    "none": None,
    "empty": "",
    "unknown": "e2b_" + "0" * 40,
    "prefix of the right one": KEY[:-1],
    "right one and more": KEY + "0",
    "upper case": KEY.upper(),
    "another scheme": "sk_" + KEY[4:],
    "SQL": "e2b_' OR 1=1 --",
    "overlong": "e2b_" + "a" * 5000,
}


@pytest.mark.parametrize("kind", WRONG_KEYS)
def test_every_route_without_a_right_key(shared, kind):
    """70., 91. All routes of the description: 401 before anything else, and the key is not repeated."""
    key, every = WRONG_KEYS[kind], routes()
    assert len(every) > 50
    wrong = {}
    for method, path in every:
        if path in OPEN or path.startswith(OPEN_501):
            continue
        answer = request(method, fill(path, shared.sandbox_id), key)
        if answer.status_code != 401 or (key and len(key) > 5 and key in answer.text):
            wrong[f"{method} {path}"] = (answer.status_code, answer.text[:100])
    assert wrong == {}
    assert is_well(shared)


@pytest.fixture
def stranger():
    """A key of a second team: the product makes one team, so this one is put into the database."""
    plain = "e2b_" + secrets.token_hex(20)
    team, now = str(uuid.uuid4()), int(time.time() * 1000)
    with sqlite3.connect(DATA_DIR / "soulbox.db", timeout=10) as database:
        database.execute("PRAGMA foreign_keys = ON")
        hashed = hashlib.sha256(plain.encode()).hexdigest()
        own = [h for (h,) in database.execute("SELECT hash FROM api_key")]
        if hashlib.sha256(KEY.encode()).hexdigest() not in own:
            pytest.skip("the database keeps another form of keys")
        database.execute("INSERT INTO team VALUES (?, ?, 'stranger', ?)", (team, f"stranger-{team[:8]}", now))
        database.execute("INSERT INTO api_key VALUES (?, ?, 'stranger', ?, 'e2b_', 40, ?, ?, ?, NULL, NULL)", (str(uuid.uuid4()), team, hashed, plain[4:6], plain[-4:], now))
    yield plain
    with sqlite3.connect(DATA_DIR / "soulbox.db", timeout=10) as database:
        database.execute("DELETE FROM api_key WHERE team_id = ?", (team,))
        database.execute("DELETE FROM idempotency WHERE team_id = ?", (team,))
        database.execute("DELETE FROM sandbox WHERE team_id = ?", (team,))
        database.execute("DELETE FROM team WHERE id = ?", (team,))


def test_every_route_with_another_teams_key(sandbox, stranger):
    """70. A sandbox and a key of one team by the key of another: 404 as for ids that do not exist, in the same words and time."""
    assert request("GET", "/sandboxes", stranger).json() == [], "the key works, and sees nothing"
    sandbox_id = sandbox.sandbox_id
    listed = request("GET", "/api-keys", KEY).json()
    key_id = listed[0]["id"]
    missing = "i" + "f" * (len(sandbox_id) - 1)
    for method, path in routes():
        if "{sandboxID}" not in path and "{keyID}" not in path:
            continue
        body = {"json": {"timeout": 1, "duration": 1, "name": "x"}} if method in ("POST", "PUT", "PATCH") else {}
        theirs = request(method, fill(path, sandbox_id, key_id), stranger, **body)
        nobodys = request(method, fill(path, missing), stranger, **body)
        assert theirs.status_code in (404, 501), f"{method} {path}: {theirs.status_code} {theirs.text}"
        assert theirs.status_code == nobodys.status_code
        words = [re.sub(r"[\w-]{20,}", "ID", answer.text) for answer in (theirs, nobodys)]
        assert words[0] == words[1], "the answer tells that it exists"
    for path in ("/sandboxes", "/v2/sandboxes", f"/sandboxes/metrics?sandbox_ids={sandbox_id}", "/api-keys"):
        assert sandbox_id not in request("GET", path, stranger).text and key_id not in request("GET", path, stranger).text

    def median(of, times=40):
        taken = []
        for _ in range(times):
            started = time.perf_counter()
            request("GET", f"/sandboxes/{of}", stranger)
            taken.append(time.perf_counter() - started)
        return sorted(taken)[times // 2]

    assert abs(median(sandbox_id) - median(missing)) < 0.005
    assert is_well(sandbox)
    assert request("GET", f"/sandboxes/{sandbox_id}", KEY).status_code == 200
    assert [k["id"] for k in request("GET", "/api-keys", KEY).json()].count(key_id) == 1


def test_a_strangers_idempotency_key(stranger, shared):
    """70. The idempotency key of one team does not hand its sandbox to another."""
    word = uuid.uuid4().hex
    body = {"templateID": os.environ.get("SOULBOX_TEST_TEMPLATE", "base"), "timeout": 30}
    ours = request("POST", "/v2/sandboxes", KEY, json=body, headers={"Idempotency-Key": word})
    theirs = request("POST", "/v2/sandboxes", stranger, json=body, headers={"Idempotency-Key": word})
    try:
        assert ours.status_code == theirs.status_code == 201
        assert ours.json()["sandboxID"] != theirs.json()["sandboxID"]
    finally:
        request("DELETE", f"/sandboxes/{ours.json()['sandboxID']}", KEY)
        request("DELETE", f"/sandboxes/{theirs.json()['sandboxID']}", stranger)


def test_a_revoked_key():
    """70. A revoked key is refused everywhere within a second."""
    made = request("POST", "/api-keys", KEY, json={"name": "attack"}).json()
    assert request("GET", "/sandboxes", made["key"]).status_code == 200
    assert request("DELETE", f"/api-keys/{made['id']}", KEY).status_code == 204
    time.sleep(1.1)
    for path in ("/sandboxes", "/v2/sandboxes", "/api-keys", "/templates"):
        assert request("GET", path, made["key"]).status_code == 401


def mutations(url):
    parts = urlsplit(url)
    query = {k: v[0] for k, v in parse_qs(parts.query).items()}

    def with_(**changes):
        changed = {k: v for k, v in {**query, **changes}.items() if v is not None}
        return urlunsplit(parts._replace(query=urlencode(changed)))

    yield "path", with_(path="/etc/passwd")
    yield "path with dots", with_(path=query["path"] + "/../other")
    yield "path with another spelling", with_(path="/" + query["path"])
    yield "user", with_(username="root")
    yield "no user", with_(username=None) if "username" in query else with_(username="user ")
    yield "later", with_(signature_expiration=str(int(time.time()) + 10_000_000))
    yield "never", with_(signature_expiration=None)
    yield "no signature", with_(signature=None)
    yield "empty signature", with_(signature="")
    yield "cut signature", with_(signature=query["signature"][:-1])
    yield "other version", with_(signature="v2_" + query["signature"][3:])
    yield "encoded twice", with_(path=query["path"].replace("/", "%2F"))
    yield "colons moved", with_(path=query["path"] + ":read", username="")


def test_signed_links(shared, neighbour):
    """69. A signed link changed in any part, used for writing, for another sandbox, or after its time: 401."""
    shared.files.write("/home/user/signed", "content")
    neighbour.files.write("/home/user/signed", "of the neighbour")
    url = shared.download_url("/home/user/signed", user="user", use_signature_expiration=60)
    sandbox = {"E2b-Sandbox-Id": shared.sandbox_id, "E2b-Sandbox-Port": "49983"}

    def get(link, headers=sandbox):
        return httpx.get(link, headers=headers, timeout=20)

    query = urlsplit(url).query
    link = f"{os.environ['E2B_SANDBOX_URL'].rstrip('/')}/files?{query}"
    assert get(link).text == "content"
    for name, changed in mutations(link):
        answer = get(changed)
        assert answer.status_code == 401, f"{name}: {answer.status_code} {answer.text[:100]}"
    assert httpx.post(link, headers=sandbox, files={"file": ("x", b"overwritten")}).status_code == 401
    assert get(link, {**sandbox, "E2b-Sandbox-Id": neighbour.sandbox_id}).status_code == 401
    assert get(link, {**sandbox, "X-Access-Token": "wrong"}).status_code == 401
    # What is named twice counts once, for the signature and for the file alike.
    for twice in (link + "&path=/etc/passwd", link.replace("path=", "path=/etc/passwd&path="), link + "&username=root"):
        answer = get(twice)
        assert answer.status_code in (400, 401) or answer.text == "content", twice
    short = f"{os.environ['E2B_SANDBOX_URL'].rstrip('/')}/files?{urlsplit(shared.download_url('/home/user/signed', user='user', use_signature_expiration=1)).query}"
    time.sleep(2.1)
    assert get(short).status_code == 401
    upload = urlsplit(shared.upload_url("/home/user/signed", user="user", use_signature_expiration=60)).query
    assert get(f"{os.environ['E2B_SANDBOX_URL'].rstrip('/')}/files?{upload}").status_code == 401
    assert shared.files.read("/home/user/signed") == "content"


def test_line_breaks_and_escapes_in_what_is_kept(sandboxes):
    """71. Metadata and environment with line breaks and terminal escapes come back as they were, and not into headers or log lines."""
    mark = uuid.uuid4().hex
    evil = f"a\r\nX-Evil: {mark}\r\n\x1b[2J\x1b]0;{mark}\x07<script>{mark}</script>"
    sandbox = sandboxes(metadata={"evil": evil, f"k\n{mark}": "v"}, envs={"EVIL": evil})
    answer = request("GET", f"/sandboxes/{sandbox.sandbox_id}", KEY)
    assert answer.json()["metadata"]["evil"] == evil
    assert "x-evil" not in answer.headers and answer.headers["content-type"].startswith("application/json")
    assert output(sandbox, "printf %s \"$EVIL\" | md5sum | cut -c1-32") == hashlib.md5(evil.encode()).hexdigest()
    httpx.get(URL + "/%0d%0aX-Evil:%20" + mark, headers={"X-API-Key": KEY, "User-Agent": f"\x1b[2J{mark}".encode().decode("latin1").replace("\x1b", "")})
    sandbox.commands.run(f"printf '\\033[2J{mark}\\r\\n2026-01-01T00:00:00Z  WARN forged\\n'; true")
    log = DATA_DIR.with_name(DATA_DIR.name + ".log")
    if log.exists():
        lines = [line for line in log.read_text(errors="replace").splitlines() if mark in line]
        assert not [line for line in lines if "\x1b" in line or line.startswith("X-Evil")]


def test_secrets_inside(shared):
    """72. Neither the access token nor an API key is in the environment, command line, files or memory that processes inside can read."""
    token = Agent(shared).token
    assert token and len(token) > 20
    half, rest = token[: len(token) // 2], token[len(token) // 2 :]
    api, more = KEY[:20], KEY[20:]
    program = f"""
words = [("{half}" + "{rest}").encode()[::1], ("{api}" + "{more}").encode()]
found = []
for pid in os.listdir("/proc"):
    if not pid.isdigit() or int(pid) == os.getpid():
        continue
    for name in ("environ", "cmdline"):
        try:
            data = open(f"/proc/{{pid}}/{{name}}", "rb").read()
        except OSError:
            continue
        found += [(pid, name) for w in words if w in data]
for top in ("/etc", "/run", "/home", "/root", "/var/log", "/dev/shm", "/sys", "/code"):
    for directory, _, files in os.walk(top):
        for name in files:
            path = os.path.join(directory, name)
            try:
                if os.path.getsize(path) < 1 << 20 and os.path.isfile(path):
                    data = open(path, "rb").read()
                    found += [path for w in words if w in data]
            except OSError:
                continue
print(found)
"""
    assert attack(shared, program) == "[]"
    environment = output(shared, "env", user="root")
    assert "E2B_API_KEY" not in environment and token not in environment
    log = DATA_DIR.with_name(DATA_DIR.name + ".log")
    if log.exists():
        text = log.read_text(errors="replace")
        assert token not in text and KEY not in text
    for answer in (request("GET", f"/sandboxes/{shared.sandbox_id}/logs", KEY), request("GET", f"/v2/sandboxes/{shared.sandbox_id}/logs", KEY)):
        assert token not in answer.text and KEY not in answer.text


def test_two_sandboxes_share_no_randomness(sandboxes):
    """75. Two sandboxes of one template: other tokens, ids and random numbers."""
    first, second = sandboxes(), sandboxes()
    assert Agent(first).token != Agent(second).token
    assert first.sandbox_id != second.sandbox_id
    for command in ("head -c 16 /dev/urandom | md5sum", "cat /proc/sys/kernel/random/uuid", "cat /etc/machine-id", "python3 -c 'import random; print(random.random())'"):
        assert output(first, command) != output(second, command), command


def test_what_listens(shared):
    """91. Every listening socket of the server asks for a key; what is secret has mode 0600 and is not in the log."""
    server = os.environ["SOULBOX_SERVER_PID"]
    inodes = {os.readlink(f)[8:-1] for f in Path(f"/proc/{server}/fd").iterdir() if os.path.islink(f) and os.readlink(f).startswith("socket:")}
    listening = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                listening.add(int(fields[1].split(":")[1], 16))
    assert listening == {urlsplit(URL).port}
    for name in ("api-key", "secret.key", "soulbox.db"):
        found = (DATA_DIR / name).stat()
        assert stat.S_IMODE(found.st_mode) == 0o600 and found.st_uid == 0, name
    for name in ("sockets", "run"):
        assert stat.S_IMODE((DATA_DIR / name).stat().st_mode) == 0o700, name


@pytest.mark.skip(reason="68. a t-test over 10^6 requests takes longer than this suite may; the comparison is subtle's, and its unit test is in the agent")
def test_guessing_tokens_by_time():
    """68. Comparing an access token takes equally long whatever is right about it."""


@pytest.mark.skip(reason="73., 74., 76., 80.-90. this build has no secrets, snapshots, forks, audit log, nodes or network policies")
def test_what_is_not_built():
    """73., 74., 76., 80.-90."""
