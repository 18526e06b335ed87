"""The template that needs no download: this machine's own /usr, and nothing else of it."""

import os
from pathlib import Path

import pytest


def test_usr_is_the_machines_and_cannot_be_written(host, run):
    assert sorted(run(host, "ls -A /usr/bin").split()) == sorted(os.listdir("/usr/bin"))
    assert "Read-only" in run(host, "touch /usr/x 2>&1 || true", user="root")


def test_the_rest_is_its_own(host, run):
    seen = set(run(host, "ls -A /", user="root").split())
    expected = {"bin", "code", "dev", "etc", "home", "lib", "lib64", "media", "mnt", "opt", "proc", "root", "run", "sbin", "srv", "sys", "tmp", "usr", "var", ".e2b", "lib32", "libx32"}
    assert seen <= expected, seen - expected
    assert run(host, "ls -A /home") == "user"
    assert run(host, "ls -A /opt /srv /mnt /media /var/log", user="root").split() == ["/media:", "/mnt:", "/opt:", "/srv:", "/var/log:"]


def test_no_account_of_the_machine_is_known(host, run):
    shadow = run(host, "cat /etc/shadow", user="root")
    assert "$" not in shadow, "a password hash"
    ours = {line.split(":")[0] for line in Path("/etc/passwd").read_text().splitlines() if int(line.split(":")[2]) >= 1000}
    theirs = {line.split(":")[0] for line in run(host, "cat /etc/passwd").splitlines()}
    assert not (ours - {"nobody", "user"}) & theirs


@pytest.mark.parametrize("name", ["ssh", "ssl/private", "gshadow-", "shadow-", "environment", "hosts.allow", "krb5.conf", "docker", "sudoers.d/README"])
def test_what_might_be_secret_is_not_there(host, run, name):
    assert run(host, f"ls /etc/{name} 2>/dev/null || echo absent", user="root") == "absent"


def test_users(host, run):
    assert run(host, "id -un; id -u; pwd") == "user\n1000\n/home/user"
    if Path("/usr/bin/sudo").exists():
        assert run(host, "sudo id -un") == "root"


@pytest.mark.parametrize("user", ["user", "root"])
def test_a_login_shell_starts_nothing_before_the_command(host, run, user):
    shell, child = map(int, run(host, "true & echo $BASHPID $!", user=user).split())
    assert child == shell + 1


@pytest.mark.skipif(not Path("/usr/bin/perl").exists(), reason="this machine has no perl")
def test_programs_find_their_libraries(host, run):
    assert run(host, "perl -MPOSIX -e 'print 6 * 7'") == "42"
    assert run(host, "ldconfig -p | wc -l", user="root").isdigit()
