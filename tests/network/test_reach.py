"""What a sandbox reaches without rules, and without the internet."""

import pytest

from conftest import attempt, attempts, refused, run, site
from world import MACHINE, OTHER, SITE, SITE6, WORLD


def test_without_rules_the_internet_is_open(opened, world):
    by_address, by_name, six, tls, other = attempts(
        opened,
        ("http", SITE, SITE),
        ("http", SITE, "www.example.com"),
        ("http", SITE6, "six.example.com"),
        ("tls", SITE, "www.example.com"),
        ("echo", OTHER),
    )
    assert (site(by_address), site(by_name), site(six), site(tls)) == (SITE, SITE, SITE6, SITE)
    assert other["said"] == "hello"
    assert attempt(opened, "resolve", "both.example.com")["found"] == [SITE6, SITE]
    code, said = run(opened, "curl -sS http://www.example.com/x && curl -sS -6 http://both.example.com/y")
    assert code == 0 and f'"to": "{SITE}"' in said and f'"to": "{SITE6}"' in said
    assert world.seen(what="tcp", to=SITE)[0]["by"] == MACHINE, "the machine dials in the sandbox's place"
