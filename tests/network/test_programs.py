"""The programs that people use inside, against what they expect to find outside."""

import base64
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import zipfile

import pytest

from conftest import run
from world import SITE, SITE6

ALL = {"deny_out": ["0.0.0.0/0"]}
REGISTRIES = {"pypi.example.com": [SITE], "npm.example.com": [SITE], "git.example.com": [SITE]}


@pytest.fixture(scope="module")
def registries(world):
    pypi(world.files / "pypi.example.com")
    npm(world.files / "npm.example.com")
    git(world.files / "git.example.com")


@pytest.fixture
def sandbox(sandboxes, world, registries):
    """May reach the registries by name, and nothing else; trusts the world's certificates."""
    world.set_names(**REGISTRIES)
    made = sandboxes(network={"allow_out": ["www.example.com", *REGISTRIES], **ALL})
    made.files.write("/tmp/ca.pem", world.authority.certificate.read_text())
    return made


def needs(program):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not on this machine, whose programs the template shows")


@needs("curl")
def test_curl(sandbox):
    checked = "curl -sS --cacert /tmp/ca.pem"
    code, said = run(sandbox, f"{checked} https://www.example.com/a?b=c")
    assert code == 0 and json.loads(said)["path"] == "/a?b=c"
    code, said = run(sandbox, f"head -c 3000000 /dev/zero | {checked} --data-binary @- https://www.example.com/up")
    assert code == 0 and json.loads(said)["length"] == 3_000_000
    code, said = run(sandbox, f"{checked} https://other.org/")
    assert code == 6, "a name that may not be reached does not exist"
    code, said = run(sandbox, f"{checked} --resolve other.org:443:{SITE} https://other.org/")
    assert code == 35 and "denied" in said, said
    code, said = run(sandbox, f"curl -sS -w '%{{http_code}}' http://{SITE}/")
    assert said.endswith("403") and "add it to allowOut" in said, said
    code, _ = run(sandbox, f"{checked} --connect-to www.example.com:443:[{SITE6}]:443 https://www.example.com/")
    assert code == 0, "the name is dialled, whatever address was meant"


@needs("wget")
def test_wget(sandbox):
    code, said = run(sandbox, "wget -qO- --ca-certificate=/tmp/ca.pem https://www.example.com/w")
    assert code == 0 and json.loads(said)["path"] == "/w"
    assert run(sandbox, f"wget -qO- --tries=1 http://{SITE}/")[0] == 8, "a server error: 403"


@needs("openssl")
def test_openssl(sandbox):
    handshake = "echo | openssl s_client -CAfile /tmp/ca.pem -verify_return_error"
    code, said = run(sandbox, f"{handshake} -connect www.example.com:443 -servername www.example.com")
    assert code == 0 and "Verify return code: 0 (ok)" in said, said
    code, said = run(sandbox, f"{handshake} -connect {SITE}:443 -servername other.org")
    assert code == 1 and "access denied" in said, said


@needs("git")
def test_git(sandbox):
    clone = "cd /tmp && git -c http.sslCAInfo=/tmp/ca.pem clone -q {} got && cat got/hello.txt"
    code, said = run(sandbox, clone.format("https://git.example.com/project.git"))
    assert (code, said) == (0, "from the world\n")
    code, said = run(sandbox, "git ls-remote https://other.org/project.git")
    assert code == 128 and "resolve host" in said


def test_pip(sandbox):
    pip = "python3 -m pip --disable-pip-version-check --no-cache-dir install --target /tmp/site --cert /tmp/ca.pem"
    code, said = run(sandbox, f"{pip} -q --index-url https://pypi.example.com/simple worldly && PYTHONPATH=/tmp/site python3 -c 'import worldly; print(worldly.WORD)'", timeout=120)
    if "No module named pip" in said:
        pytest.skip("this machine's python3 has no pip")
    assert (code, said.splitlines()[-1]) == (0, "installed"), said
    code, said = run(sandbox, f"{pip} --retries 0 --index-url https://pypi.other.org/simple worldly", timeout=120)
    assert code != 0


@needs("npm")
def test_npm(sandbox):
    install = "mkdir -p /tmp/n && cd /tmp/n && echo '{}' > package.json && npm install --no-audit --no-fund --cafile=/tmp/ca.pem --registry=https://npm.example.com worldly"
    code, said = run(sandbox, f"{install} && node -p 'require(\"worldly\")'", timeout=120)
    assert code == 0 and said.splitlines()[-1] == "installed", said


def test_dig(opened):
    if run(opened, "command -v dig")[0] != 0:
        pytest.skip("dig is not on this machine")
    assert run(opened, "dig +short www.example.com @9.9.9.9") == (0, f"{SITE}\n")
    assert run(opened, "dig +tcp +short www.example.com @9.9.9.9") == (0, f"{SITE}\n")


def pypi(root):
    """An index with one package of one module."""
    package = root / "simple/worldly"
    package.mkdir(parents=True)
    metadata = "Metadata-Version: 2.1\nName: worldly\nVersion: 1.0\n"
    wheel = "Wheel-Version: 1.0\nGenerator: world\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    content = {"worldly.py": "WORD = 'installed'\n", "worldly-1.0.dist-info/METADATA": metadata, "worldly-1.0.dist-info/WHEEL": wheel}
    name = "worldly-1.0-py3-none-any.whl"
    with zipfile.ZipFile(package / name, "w") as archive:
        record = ""
        for path, text in content.items():
            archive.writestr(path, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{path},sha256={digest},{len(text)}\n"
        archive.writestr("worldly-1.0.dist-info/RECORD", record + "worldly-1.0.dist-info/RECORD,,\n")
    (package / "index.html").write_text(f'<a href="{name}">{name}</a>')


def npm(root):
    """A registry with one package."""
    (root / "worldly-files").mkdir(parents=True)
    manifest = {"name": "worldly", "version": "1.0.0", "main": "index.js"}
    with tarfile.open(root / "worldly-files/worldly-1.0.0.tgz", "w:gz") as archive:
        for name, text in (("package/package.json", json.dumps(manifest)), ("package/index.js", "module.exports = 'installed'\n")):
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    digest = base64.b64encode(hashlib.sha512((root / "worldly-files/worldly-1.0.0.tgz").read_bytes()).digest()).decode()
    dist = {"tarball": "https://npm.example.com/worldly-files/worldly-1.0.0.tgz", "integrity": f"sha512-{digest}"}
    about = {"name": "worldly", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": {**manifest, "dist": dist}}}
    (root / "worldly").write_text(json.dumps(about))


def git(root):
    """A repository as plain files, which git reads over HTTP."""
    root.mkdir(parents=True)
    work, bare = root / "work", root / "project.git"
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_NAME": "w", "GIT_AUTHOR_EMAIL": "w@example.com", "GIT_COMMITTER_NAME": "w", "GIT_COMMITTER_EMAIL": "w@example.com"}

    def command(*words):
        subprocess.run(["git", *map(str, words)], check=True, capture_output=True, env=environment)

    command("init", "-q", work)
    (work / "hello.txt").write_text("from the world\n")
    command("-C", work, "add", "hello.txt")
    command("-C", work, "commit", "-qm", "Say hello")
    command("clone", "-q", "--bare", work, bare)
    command("-C", bare, "update-server-info")
