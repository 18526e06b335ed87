"""What a project depends on is installed from the machine's registries: once, from what made it, and nothing else."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import PROJECT, TEMPLATE, needs_base

STORE = Path(os.environ["SOULBOX_DATA_DIR"]) / "store/templates"

pytestmark = needs_base


class Project:
    """A directory with a project, and what `soulbox run` says of it."""

    def __init__(self, soulbox, directory):
        self.soulbox, self.directory = soulbox, directory
        self.write("soulbox.toml", PROJECT.format(template=TEMPLATE))

    def write(self, name, text):
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(self, *start, sets=(), flags=(), code=0):
        words = [f"commands.start={json.dumps(start)}", *sets]
        given = [word for text in words for word in ("--set", text)]
        return self.soulbox("run", "--project", self.directory, *given, *flags, code=code, timeout=110)

    def refused(self, *start, **options):
        error = json.loads(self.run(*start, flags=["--json", *options.pop("flags", ())], code=1, **options).stderr.splitlines()[-1])
        assert error["error"]["code"] == "SB-INSTALL", error
        return error["error"]["message"]


@pytest.fixture
def project(soulbox, tmp_path):
    return Project(soulbox, tmp_path)


SIX = "import six, sys; print(six.__version__, sys.prefix)"


def test_pip_installs_once_and_again_only_for_another_list(project, api):
    before = api.names()
    project.write("requirements.txt", "-r more.txt\n")
    project.write("more.txt", "six==1.16.0\n")
    project.write(".venv/bin/python3", "not this one")
    assert project.run("python3", "-c", SIX).stdout == "1.16.0 /home/user/app/.venv\n"
    [made] = api.names() - before

    project.write("app.py", "import six; print(six.__version__)")
    assert project.run("python3", "app.py").stdout == "1.16.0\n"
    # A shell that begins anew, as the commands of E2B's clients are run in, finds it, too.
    assert project.run("bash", "-lc", "command -v python3").stdout == "/home/user/app/.venv/bin/python3\n"
    project.run("sh", "-c", "touch .venv/x app.py && ! ls -A /tmp | grep .")
    assert api.names() - before == {made}, "a change of code installs nothing"

    project.write("more.txt", "six==1.17.0\n")
    assert project.run("python3", "app.py").stdout == "1.17.0\n"
    assert len(api.names() - before) == 2
    # What made it, arguments included.
    assert "six" in project.refused("true", sets=["template.build_args.PIP_NO_INDEX=1"])
    [home] = STORE.glob(f"{made}-*")
    assert not (home / "rootfs/upper/etc/ssl").exists(), "whom the machine trusts is not kept"
    assert api.prune() >= api.names() - before


def test_npm_installs_what_a_lock_says_beside_the_code(project):
    project.write("package.json", json.dumps({"name": "a", "scripts": {"postinstall": "false"}, "dependencies": {"ms": "^2.1.0"}}))
    project.write("main.mjs", "import ms from 'ms'; console.log(ms('2h'), process.version)")
    project.write("node_modules/ms/package.json", "this is not it")
    assert project.run("node", "main.mjs").stdout.startswith("7200000 v")
    lock = {"": {"name": "a", "dependencies": {"ms": "^2.1.0"}}, "node_modules/ms": {"version": "2.1.1"}}
    project.write("package-lock.json", json.dumps({"name": "a", "lockfileVersion": 3, "requires": True, "packages": lock}))
    version = ["node", "-p", "require('ms/package.json').version"]
    assert project.run(*version).stdout == "2.1.1\n"
    assert project.run(*version, sets=["security.read_only=true"]).stdout == "2.1.1\n"
    lock["node_modules/ms"]["version"] = "2.99.0"
    project.write("package-lock.json", json.dumps({"name": "a", "lockfileVersion": 3, "requires": True, "packages": lock}))
    assert "2.99.0" in project.refused(*version)


@pytest.mark.parametrize(
    "manager, lock",
    [
        ("pnpm", "lockfileVersion: '9.0'\nsettings:\n  autoInstallPeers: true\n  excludeLinksFromLockfile: false\nimporters:\n  .:\n"
         "    dependencies:\n      ms:\n        specifier: 2.1.2\n        version: 2.1.2\npackages:\n  ms@2.1.2:\n    resolution: "
         "{integrity: sha512-sGkPx+VjMtmA6MX27oA4FBFELFCZZ4S4XqeGOXCv68tT+jb3vk/RyaKWP0PTKyWtmLSM0b+adUTEvbs1PEaH2w==}\n"
         "snapshots:\n  ms@2.1.2: {}\n"),
        ("yarn", None),
        ("bun", None),
    ],
    ids=["pnpm", "yarn", "bun"],
)
def test_other_installers_of_npms_packages(project, manager, lock):
    package = {"name": "a", "packageManager": "yarn@1.22.22", "dependencies": {"ms": "2.1.2"}}
    if manager != "yarn":
        del package["packageManager"]
    project.write("package.json", json.dumps(package))
    project.write("main.mjs", "import ms from 'ms'; console.log(ms('2h'))")
    if lock:
        project.write("pnpm-lock.yaml", lock)
    if manager == "bun":
        project.write("bunfig.toml", "")
        told = project.refused("true")
        assert 'base_image to "bun"' in told
    sets = ["template.base_image=bun"] if manager == "bun" else []
    assert project.run(manager if manager == "bun" else "node", "main.mjs", sets=sets).stdout == "7200000\n"


LIB = "const own = require('ms/package.json').version; exports.versions = top => [own, top, __dirname].join(' ')"
MAIN = "import lib from '@p/lib'; import ms from 'ms/package.json' with {type: 'json'}; console.log(lib.versions(ms.version))"


@pytest.mark.parametrize("manager", ["npm", "pnpm@10.34.9", "yarn@1.22.22", "yarn@4.18.1"])
def test_members_of_workspaces_are_found_where_nothing_can_be_written(project, manager):
    wanted = "1.0.0" if manager in ("npm", "yarn@1.22.22") else "workspace:*"
    package = {"name": "a", "private": True, "workspaces": ["packages/*"], "dependencies": {"ms": "2.1.3", "semver": "7.7.2", "@p/lib": wanted}}
    if manager != "npm":
        package["packageManager"] = manager
    project.write("package.json", json.dumps(package))
    project.write("pnpm-workspace.yaml", "packages:\n  - packages/*\n")
    lib = {"name": "@p/lib", "version": "1.0.0", "main": "index.js", "dependencies": {"ms": "2.0.0"}}
    project.write("packages/lib/package.json", json.dumps(lib))
    project.write("packages/lib/index.js", LIB)
    project.write("main.mjs", MAIN)
    for where, sets in (("/home/user/app", []), ("/tmp/app", ["security.read_only=true"])):
        assert project.run("node", "main.mjs", sets=sets).stdout == f"2.0.0 2.1.3 {where}/packages/lib\n"
    assert project.run("node_modules/.bin/semver", "1.2.3", sets=sets).stdout == "1.2.3\n"
    # A change of code is seen: it is the project's own that is run.
    project.write("packages/lib/index.js", "exports.versions = () => 'changed'")
    assert project.run("node", "main.mjs", sets=sets).stdout == "changed\n"


def test_uv_installs_what_its_lock_says(project):
    project.write("pyproject.toml", "[project]\nname='a'\nversion='1'\nrequires-python='>=3.9'\ndependencies=['six==1.16.0']\n")
    make = "python3 -m venv /tmp/uv >&2 && /tmp/uv/bin/pip install -q uv >&2 && /tmp/uv/bin/uv -q lock >&2 && cat uv.lock"
    lock = project.run("sh", "-c", make, flags=["--no-install"]).stdout
    assert 'name = "six"' in lock
    project.write("uv.lock", lock)
    assert project.run("python3", "-c", SIX).stdout == "1.16.0 /home/user/app/.venv\n"
    project.write("pyproject.toml", "[project]\nname='a'\nversion='1'\nrequires-python='>=3.9'\ndependencies=['six==1.15.0']\n")
    told = project.refused("true")
    assert "uv sync --locked" in told and "lockfile" in told, "the lock is of another manifest"


def test_what_does_not_exist_is_told_in_the_installers_words(project, api, soulbox):
    before, sandboxes = api.names(), soulbox("sandbox", "list", "-q").stdout
    project.write("requirements.txt", "soulbox-has-no-such-package==1.0\n")
    told = project.refused("true")
    assert "pip failed to install requirements.txt" in told and "soulbox-has-no-such-package" in told
    project.write("requirements.txt", "-e ../lib\n")
    assert "`../lib` is a local package" in project.refused("true")
    assert soulbox("sandbox", "list", "-q").stdout == sandboxes
    assert not list(STORE.glob(".build-*"))
    api.prune()
    assert api.names() <= before
    assert project.run("echo", "runs", flags=["--no-install"]).stdout == "runs\n"


def test_an_installation_is_cut_at_its_limit(project):
    project.write("requirements.txt", "six==1.14.0\n")
    told = project.refused("true", flags=["--install-within", "1s"])
    assert "not done within 1 s: " in told and " of " in told and "was under way" in told
    assert "--install-within" in project.run("true", flags=["--install-within", "1s"], code=1).stderr
    assert not list(STORE.glob(".build-*"))
    for bad in ("0s", "21m"):
        assert "1s to 20m" in project.run("true", flags=["--install-within", bad], code=2).stderr


def test_the_internet_is_for_the_installation_alone(project):
    project.write("requirements.txt", "six==1.13.0\n")
    sets = ["network.allow_internet=false"]
    assert project.run("python3", "-c", SIX, sets=sets).stdout.startswith("1.13.0 ")
    more = project.run("pip", "install", "--retries=0", "six==1.12.0", sets=sets, code=1)
    assert "six==1.12.0" in more.stderr


def test_an_interrupted_installation_ends(project, soulbox):
    project.write("package.json", '{"dependencies": {"ms": "2.1.3"}}')
    hang = "NODE_OPTIONS=--import=data:text/javascript,await%20new%20Promise(r=>setTimeout(r,60000))"
    command = [*soulbox.command, "run", "--project", str(project.directory), "--set", f"template.build_args.{hang}"]
    process = subprocess.Popen(command, env=soulbox.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        for line in process.stderr:
            if "npm" in line:
                break
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode in (130, -signal.SIGINT)
    deadline = time.monotonic() + 20
    while list(STORE.glob(".build-*")):
        assert time.monotonic() < deadline, "nobody waits for it any more"
        time.sleep(0.5)


def test_an_interpreter_of_another_version_is_installed(project):
    sets = ["template.nodejs_version=20"]
    script = "bash -lc 'node --version' && node --version"
    assert [line[:4] for line in project.run("sh", "-c", script, sets=sets).stdout.split()] == ["v20."] * 2
    project.write("package.json", '{"dependencies": {"ms": "2.1.3"}}')
    show = "console.log(require('ms/package.json').version, process.versions.node)"
    assert project.run("node", "-e", show, sets=sets).stdout.startswith("2.1.3 20.")


def test_an_interpreter_that_is_there_stays(project, api):
    before = api.names()
    has = project.run("python3", "--version").stdout.split()[1]
    for wanted in (has, ".".join(has.split(".")[:2])):
        assert project.run("python3", "--version", sets=[f"template.python_version={wanted}"]).stdout.split()[1] == has
    for name in api.names() - before:
        [home] = STORE.glob(f"{name}-*")
        assert not list((home / "rootfs/upper").glob("opt/*")), "nothing was installed"


PYTHON = """
import ctypes, json, sqlite3, ssl, subprocess, sys, ujson
minor = ".".join(map(str, sys.version_info[:2]))
subprocess.run(["/usr/local/bin/python3", "-m", "venv", "--copies", "/tmp/again"], check=True)
again = subprocess.run(["/tmp/again/bin/python", "-c", "import ssl, sys; print(sys.prefix)"], capture_output=True, text=True)
other = subprocess.run(["node", "-p", "1 + 1"], capture_output=True, text=True)
print(json.dumps([minor, sys.prefix, sys.base_prefix, ujson.loads("[1]"), again.stdout, again.stderr, other.stdout]))
"""


def test_python_older_and_newer_than_the_templates_comes_from_debian(project, api):
    has = project.run("python3", "--version").stdout.split()[1]
    wanted = [version for version in ("3.9", "3.13", "3.11") if not has.startswith(version)][:2]
    project.write("main.py", PYTHON)
    for version in wanted:
        api.prune()
        sets, before = [f"template.python_version={version}"], api.names()
        project.write("requirements.txt", "ujson\n")
        done = project.run("python3", "main.py", sets=sets, code=None)
        if "not read: stable oldstable oldoldstable" in done.stderr:
            pytest.skip("Debian's archive is not reachable from sandboxes")
        assert done.returncode == 0, done.stderr
        prefix = f"/opt/python/{version}"
        assert json.loads(done.stdout) == [version, "/home/user/app/.venv", prefix, [1], "/tmp/again\n", "", "2\n"]
        # Without an environment of its own, for a shell that begins anew, and with pip.
        (project.directory / "requirements.txt").unlink()
        script = "bash -lc 'python --version' && python3 -c 'import six, sys; print(sys.prefix)' && pip --version"
        told = project.run("sh", "-c", f"pip install -q six==1.16.0 && {script}", sets=sets).stdout
        assert told.startswith(f"Python {version}.") and f"\n{prefix}\n" in told and told.endswith(f"(python {version})\n"), told
        [upper] = {home / "rootfs/upper" for name in api.names() - before for home in STORE.glob(f"{name}-*") if (home / "rootfs/upper/opt").exists()}
        assert not list(upper.glob("var/lib/[ad]p*")), "what apt and dpkg know is as it was"
        assert not list(upper.glob("tmp/*"))


def test_a_version_that_there_is_not_is_told_with_those_that_there_are(project):
    told = project.refused("true", sets=["template.nodejs_version=20.99"])
    assert "no Node.js 20.99" in told and " 22." in told
    told = project.refused("true", sets=["template.python_version=3.2"])
    assert "Python 3.2 could not be fetched" in told and "the template has Python 3." in told
    assert " Debian " in told and "uv knows 3." in told


def test_code_of_no_project_gets_packages_by_name(soulbox):
    code = "import six; print(six.__version__)"
    assert soulbox("exec", "--runtime", "python", "--with", "six==1.16.0", "-e", code).stdout == "1.16.0\n"
    code = "import ms from 'ms'; console.log(ms('1s'))"
    assert soulbox("exec", "--runtime", "node", "--with", "ms@2", "-e", code).stdout == "1000\n"
    assert "takes no packages" in soulbox("exec", "--runtime", "deno", "--with", "ms", "-e", "1", code=2).stderr


def test_installed_packages_are_hostile_like_everything_inside(project):
    """What a package leaves in the layer is of the sandbox's users, and nothing of it runs outside."""
    project.write("requirements.txt", "six==1.16.0\n")
    owners = project.run("sh", "-c", "stat -c %U .venv .venv/bin/pip; id -un").stdout.split()
    assert owners == ["user"] * 3
    shutil.rmtree(project.directory / ".venv", ignore_errors=True)
