"""The Debian userland that clients get when they name no template."""

import pytest

TOOLS = {
    "bash": "bash --version",
    "coreutils": "sort --version",
    "sudo": "sudo -n true && echo ok",
    "procps": "ps --version && pgrep --version && free",
    "iproute2": "ip -V 2>&1 && ss -V",
    "python3": "python3 -c 'import ssl, sqlite3, venv, asyncio; print(1)'",
    "python": "python --version",
    "pip": "pip --version && python -m pip --version",
    "node": "node -e 'console.log(require(\"crypto\").randomUUID())'",
    "npm": "npm --version",
    "git": "git --version && git daemon -h 2>&1 | grep -q usage && echo daemon",
    "curl": "curl --version",
    "wget": "wget --version",
    "ca-certificates": "openssl x509 -in /etc/ssl/certs/ca-certificates.crt -noout -subject",
    "openssh-client": "ssh -V 2>&1 && ssh-keygen -q -t ed25519 -N '' -f /tmp/key && echo made",
    "terminfo": "for t in xterm-256color screen-256color tmux-256color vt100; do tput -T $t cols; done",
    "attr": "touch /tmp/x && setfattr -n user.k -v v /tmp/x && getfattr --absolute-names --only-values -n user.k /tmp/x",
    "less": "less --version",
    "locale": "LC_ALL=C.UTF-8 locale charmap | grep -x UTF-8",
}


@pytest.mark.parametrize("tool", TOOLS)
def test_tool(base, run, tool):
    assert run(base, TOOLS[tool])


def test_users(base, run):
    assert run(base, "id -un; id -u; id -gn; pwd; echo $HOME $SHELL") == "user\n1000\nuser\n/home/user\n/home/user /bin/bash"
    assert run(base, "id -un; echo $HOME $SHELL", user="root") == "root\n/root /bin/bash"
    assert "sudo" in run(base, "id -Gn").split()
    assert run(base, "stat -c '%U %G' /home/user /home/user/.bashrc") == "user user\nuser user"


@pytest.mark.parametrize("user", ["user", "root"])
def test_a_login_shell_starts_nothing_before_the_command(base, run, user):
    """Two processes one after the other, with nothing between them, have neighbouring ids."""
    seen = run(base, "true & echo $BASHPID $!", user=user)
    shell, child = map(int, seen.split())
    assert child == shell + 1, f"{child - shell - 1} processes were started by the profile"


def test_sudo_says_nothing_of_its_own(base, run):
    assert run(base, "sudo id -un") == "root"
    assert run(base, "sudo -u user -i pwd") == "/home/user"


def test_its_own_name_resolves(base, run):
    assert run(base, "getent hosts $(hostname) | head -1")
    assert run(base, "python -c 'import socket; print(socket.gethostbyname(socket.gethostname()))'").startswith("127.")


@pytest.mark.parametrize("user", ["user", "root"])
def test_pip_installs_without_ado(base, run, user):
    project = f"/tmp/project-{user}"
    base.files.write(f"{project}/pyproject.toml", f'[project]\nname = "demo-{user}"\nversion = "1"\n[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n[project.scripts]\ndemo-{user} = "demo_{user}:main"\n[tool.setuptools]\npy-modules = ["demo_{user}"]\n', user=user)
    base.files.write(f"{project}/demo_{user}.py", "def main():\n    print('installed')\n", user=user)
    run(base, f"pip install -q --no-index --no-build-isolation {project}", user=user, stderr=None, timeout=120)
    assert run(base, f"demo-{user}", user=user) == "installed"


def test_a_venv_has_its_own_pip(base, run):
    run(base, "python -m venv /tmp/venv", timeout=120)
    assert "/tmp/venv/" in run(base, "/tmp/venv/bin/pip --version")


def test_npm_installs_for_all(base, run):
    base.files.write("/tmp/tool/package.json", '{"name": "tool", "version": "1.0.0", "bin": {"tool": "tool.js"}}')
    base.files.write("/tmp/tool/tool.js", "#!/usr/bin/env node\nconsole.log('installed')\n")
    run(base, "npm install -g --offline --no-audit --no-fund $(npm pack --silent /tmp/tool)", stderr=None, cwd="/tmp", timeout=120)
    assert run(base, "tool") == "installed"


def test_git_serves_and_clones(base, run):
    run(base, "git init -q -b main /tmp/repo && cd /tmp/repo && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m one")
    daemon = base.commands.run("git daemon --reuseaddr --export-all --base-path=/tmp --listen=127.0.0.1", background=True, timeout=0)
    run(base, "for i in $(seq 50); do ss -Htln sport = :9418 | grep -q . && break; sleep 0.1; done")
    run(base, "git clone -q git://127.0.0.1/repo /tmp/clone")
    daemon.kill()
    assert run(base, "git -C /tmp/clone log --format=%s") == "one"


def test_modes_of_shared_directories(base, run):
    assert run(base, "stat -c '%a %n' /tmp /var/tmp /usr/local /usr/local/bin /code") == "1777 /tmp\n1777 /var/tmp\n777 /usr/local\n777 /usr/local/bin\n777 /code"
    assert run(base, "umask") == "0022"


def test_nothing_of_the_build_is_left(base, run):
    assert run(base, "ls /etc/apt/apt.conf.d/ | grep -c mmdebstrap || true", user="root") == "0"
    assert run(base, "grep -rlE '//[^/ ]*:[^/ ]*@' /etc/apt || true", user="root") == ""
    assert run(base, "ls /var/lib/apt/lists/ /var/cache/apt/archives/ | grep -cE 'Packages|deb$' || true", user="root") == "0"
    assert run(base, "find / -xdev -type b -o -xdev -type c 2>/dev/null | grep -v ^/dev/ || true", user="root") == ""
    assert run(base, "find / -xdev \\( -nouser -o -nogroup \\) 2>/dev/null | grep -v ^/proc || true", user="root") == ""


def test_packages_are_whole_and_signed_for(base, run):
    assert run(base, "dpkg --audit", user="root") == ""
    sources = run(base, "cat /etc/apt/sources.list.d/*")
    assert "debian-archive-keyring" in sources
    assert "trusted=yes" not in sources.replace(" ", "")
    twice = run(base, "cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep . | sort | uniq -d")
    assert twice == "", "apt complains of each source that it finds twice"
    assert run(base, "apt-config dump | grep -iE 'AllowInsecure|AllowUnauthenticated' | grep -iE 'true|\"1\"' || true") == ""
