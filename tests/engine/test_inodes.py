"""Two files are never one to programs that compare device and inode number, whichever layers they lie in."""

import json
import time

import httpx
import pytest

from conftest import python
from harness import own

# Looks at all of the root file system, then makes files until one has a number that was seen, or one beyond all.
PROGRAM = """
import json, os
root, seen, twice = os.lstat("/").st_dev, {}, []

def is_here(path):
    return os.lstat(path).st_dev == root

def look(path):
    found = os.lstat(path)
    if found.st_ino in seen and (os.path.isdir(path) or found.st_nlink == 1):
        twice.append([seen[found.st_ino], path])
    seen.setdefault(found.st_ino, path)
    return found.st_ino

for directory, directories, names in os.walk("/"):
    directories[:] = [name for name in directories if is_here(os.path.join(directory, name))]
    for path in (os.path.join(directory, name) for name in directories + names):
        if is_here(path):
            look(path)
highest = max(seen)
os.mkdir("/made")
for made in range(100_000):
    path = f"/made/{made}"
    os.mkdir(path) if made % 2 else open(path, "x").close()
    if look(path) > highest or twice:
        break
print(json.dumps({"twice": twice[:5], "made": made, "seen": len(seen)}))
"""

# `cp` refuses what it takes for one and the same file.
COPY = """
cd /srv
for file in $(find . -name f | head -400); do echo new > /tmp/new.$((n += 1)); done
n=0
for file in $(find . -name f | head -400); do cp /tmp/new.$((n += 1)) $file || exit 1; done
"""


def look(sandbox):
    found = json.loads(python(sandbox, PROGRAM))
    assert found["seen"] > 20, found
    return found


def test_no_two_files_have_one_number(sandbox):
    assert look(sandbox)["twice"] == []


@pytest.fixture
def server():
    with own.lent("--pool", "2") as server:
        yield server


def derive(server, parent, step):
    """A template of its own above `parent`, ready."""
    client = server.client()
    http = httpx.Client(base_url=client["api_url"], headers={"X-API-Key": client["api_key"]}, timeout=60)
    body = {"parent": parent, "steps": [{"command": ["sh", "-ec", step]}]}
    name = http.post("/soulbox/v1/templates", json=body).json()["name"]
    for _ in range(600):
        state = http.get(f"/soulbox/v1/templates/{name}").json()["state"]
        if state != "building":
            assert state == "ready"
            return name
        time.sleep(0.1)
    raise AssertionError("the template is still being built")


def test_layers_on_top_of_each_other_share_no_number(server):
    """Each layer goes on beyond those below it, also when another server makes it."""
    fill = "mkdir -p /srv/{0}; cd /srv/{0}; for n in $(seq 400); do mkdir $n; echo > $n/f; done; rm -r 1 2 3"
    name, known = own.TEMPLATE, []
    for depth in "abc":
        name = derive(server, name, fill.format(depth))
        known.append(name)
        server.stop()
        server.start()
    # The first ones again, too: by now numbers go on far beyond them.
    for name in (known[2], own.TEMPLATE, known[0]):
        sandbox = own.e2b.Sandbox.create(template=name, timeout=300, **server.client())
        found = look(sandbox)
        assert (found["twice"], found["made"]) == ([], 0), name
        sandbox.commands.run(COPY, user="root")
        sandbox.kill()

