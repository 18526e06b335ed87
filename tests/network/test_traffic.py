"""What went out, event by event and byte by byte: told as it is, and held to its limits."""

import json
import signal
import sqlite3
import subprocess
import threading
import urllib.error
import urllib.request
from contextlib import closing

import pytest
from conftest import VALUE, attempt, attempts, call, events, fetch, furnished, run, site
from test_changes import mortal  # noqa: F401
from test_flows import MIB, program, until
from test_rules import ALL, rules
from world import MACHINE, OTHER, SITE


def limit(server, sandbox, **destinations):
    """Bytes that may be sent to a destination, or a pair with those that may come back."""
    pairs = {place: given if isinstance(given, dict) else {"sent": given} for place, given in destinations.items()}
    assert call(server, sandbox, "requests", "PUT", {"bytes": pairs}).status == 204


def written_down(server, sandbox):
    """Bytes that the database says were sent to the one destination with a limit."""
    with closing(sqlite3.connect(f"file:{server.data_dir}/soulbox.db?mode=ro", uri=True)) as database:
        return database.execute("SELECT sum(sent) FROM bytes_used WHERE sandbox_id = ?", [sandbox.sandbox_id]).fetchone()[0]


class TestEvents:
    def test_each_decision_with_its_rule_and_its_bytes(self, server, sandboxes):
        sandbox = sandboxes(network={"allow_out": ["*.example.com", f"{SITE}/32"], **ALL})
        attempts(sandbox, ("echo", SITE), ("echo", OTHER), ("http", OTHER, "www.example.com"), ("ask", "8.8.8.8", "other.org"), ("http", MACHINE, "x.y"))
        until(lambda: len(events(server, sandbox, decision="ended")) == 2)
        [begun] = events(server, sandbox, decision="allowed", protocol="tcp", port=7)
        [ended] = events(server, sandbox, decision="ended", flow=begun["flow"])
        assert (begun["rule"], begun["address"]) == (f"allowOut {SITE}", SITE)
        assert (ended["sentBytes"], ended["receivedBytes"]) == (5, 5) and "reason" not in ended
        [named] = events(server, sandbox, decision="allowed", protocol="tcp", name="www.example.com")
        assert (named["rule"], named["address"]) == ("allowOut *.example.com", SITE), "where it went, not where it was aimed"
        assert events(server, sandbox, decision="denied", address=OTHER)[0]["rule"] == "default deny"
        assert events(server, sandbox, decision="denied", protocol="dns", name="other.org")
        usage = json.load(call(server, sandbox, "usage"))["network"]
        assert usage["allowed"] >= 2 and usage["denied"] >= 2 and usage["sentBytes"] > 5, usage

    def test_sums_of_the_team_keep_those_of_sandboxes_that_ended(self, server):
        def sums():
            url = f"{server.url}/soulbox/v1/metrics"
            bearer = {"Authorization": f"Bearer {server.environment()['E2B_API_KEY']}"}
            answer = urllib.request.urlopen(urllib.request.Request(url, headers=bearer), timeout=20)
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            lines = [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
            return {name: int(value) for name, value in (line.split() for line in lines)}

        before = sums()
        sandbox = furnished(server.create(network={"allow_out": [f"{SITE}/32"], **ALL}))
        attempts(sandbox, ("echo", SITE), ("echo", OTHER))
        until(lambda: events(server, sandbox, decision="ended"))
        during = sums()
        sandbox.kill()
        until(lambda: sums()["soulbox_sandboxes_ended_total"] > before["soulbox_sandboxes_ended_total"])
        after = sums()
        grown = {name: after[name] - before[name] for name in after}
        for decision in ("allowed", "denied"):
            assert grown[f'soulbox_network_decisions_total{{decision="{decision}"}}'] >= 1
        assert grown["soulbox_network_sent_bytes_total"] >= 5 and grown["soulbox_network_received_bytes_total"] >= 5
        assert all(after[name] >= during[name] for name in after if name.endswith("_total") or "decision" in name)

    def test_no_secret_and_no_query_is_in_them(self, trusting, sandboxes):  # noqa: F811
        network = {"rules": rules(Authorization="Bearer ${e2b.secrets.key}")}
        sandbox = sandboxes(on=trusting, network=network)
        fetch(sandbox, "'https://api.example.com/hidden-path?token=hidden-query'", "-H 'X-Mine: hidden-header'")
        fetch(sandbox, "'http://api.example.com/hidden-path?token=hidden-query'")
        attempt(sandbox, "http", OTHER, "www.other.org", 80, "/?token=hidden-query")
        until(lambda: events(trusting, sandbox, decision="allowed", protocol="http"))
        text = json.dumps(events(trusting, sandbox))
        for hidden in [VALUE, "hidden-", "Bearer"]:
            assert hidden not in text, hidden

    def test_who_follows_hears_at_once_and_until_the_end(self, server, sandboxes):
        sandbox = furnished(server.create())
        command = [server.binary, "--data-dir", server.data_dir, "sandbox", "net", "-f", sandbox.sandbox_id, "--json"]
        following = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
        heard = []
        reader = threading.Thread(target=lambda: heard.extend(json.loads(line) for line in following.stdout))
        reader.start()
        attempt(sandbox, "echo", SITE)
        until(lambda: [event for event in heard if event["decision"] == "ended" and event["address"] == SITE])
        sandbox.kill()
        reader.join(timeout=20)
        assert following.wait(timeout=5) == 0
        assert [event["number"] for event in heard] == list(range(len(heard)))
        # Of a sandbox that has ended it is still told.
        assert server.run("sandbox", "net", sandbox.sandbox_id).stdout.count("END") == len([event for event in heard if event["decision"] == "ended"])

    def test_who_reads_late_is_told_what_it_missed(self, server, sandboxes):
        text = """
import json, socket, sys
for n in range(400):
    try: socket.create_connection((sys.argv[1], 7)).close()
    except OSError: pass
print(json.dumps(1))
"""
        sandbox = sandboxes()
        program(sandbox, text, SITE)
        until(lambda: events(server, sandbox)[0]["decision"] == "lost")
        found = events(server, sandbox)
        assert found[0]["decision"] == "lost" and len(found) <= 513, found[0]
        assert found[1]["number"] == found[0]["lost"] > 0

    def test_readers_are_few(self, server, sandboxes):
        sandbox = sandboxes()
        held = [call(server, sandbox, "network/events?follow=true") for _ in range(16)]
        try:
            call(server, sandbox, "network/events?follow=true")
            raise AssertionError("one more could read")
        except urllib.error.HTTPError as error:
            assert error.code == 429, error.read()
        for answer in held:
            answer.close()


SEND = """
import json, socket, sys
stream = socket.create_connection((sys.argv[1], 5000)); stream.settimeout(20)
try:
    stream.sendall(b"x" * int(sys.argv[2])); stream.shutdown(socket.SHUT_WR)
    print(json.dumps(stream.makefile().read().split()[:1]))
except OSError as error: print(json.dumps(type(error).__name__))
"""

RECEIVE = """
import json, socket, sys
stream = socket.create_connection((sys.argv[1], 5001)); stream.settimeout(20)
stream.sendall(sys.argv[2].encode() + b"\\n")
length = 0
try:
    while part := stream.recv(1 << 16): length += len(part)
except OSError: length = -length
print(json.dumps(length))
"""

PARALLEL = """
import json, socket, sys, threading
def pour():
    try:
        stream = socket.create_connection((sys.argv[1], 5000)); stream.settimeout(20)
        while True: stream.sendall(b"x" * 65536)
    except OSError: pass
threads = [threading.Thread(target=pour) for _ in range(60)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(1))
"""


class TestLimits:
    def test_as_many_bytes_as_it_says_and_an_end(self, server, sandboxes):
        """Copied and spliced flows alike."""
        sandbox = sandboxes()
        limit(server, sandbox, **{f"{SITE}/32": MIB, OTHER: 5})
        assert program(sandbox, SEND, SITE, MIB) == [str(MIB)]
        assert attempt(sandbox, "echo", OTHER).get("said") == "hello"
        assert attempt(sandbox, "echo", OTHER, 7, "x").get("said") is None
        assert attempt(sandbox, "http", SITE, "www.example.com")["status"] == 429
        [denied] = events(server, sandbox, decision="denied", rule=f"bytes {SITE}")
        assert "used up" in denied["reason"]
        log = server.run("sandbox", "logs", sandbox.sandbox_id).stdout
        assert f"sent to {SITE} are used up" in log, log

    def test_what_comes_back_counts_too(self, server, sandboxes):
        sandbox = sandboxes()
        limit(server, sandbox, **{"0.0.0.0/0": {"received": 3 * MIB}})
        assert program(sandbox, RECEIVE, SITE, 2 * MIB) == 2 * MIB
        cut = program(sandbox, RECEIVE, SITE, 2 * MIB)
        assert -MIB <= cut <= 0, cut
        [ended] = events(server, sandbox, decision="ended", rule="bytes 0.0.0.0/0")
        assert ended["receivedBytes"] == MIB and "used up" in ended["reason"]

    def test_many_flows_at_once_do_not_exceed_it(self, server, sandboxes):
        """The attack: no number of connections gets one byte more out."""
        sandbox = sandboxes()
        limit(server, sandbox, **{"*": 5 * MIB + 3})
        program(sandbox, PARALLEL, OTHER)
        assert json.load(call(server, sandbox, "usage"))["network"]["sentBytes"] == 5 * MIB + 3
        program(sandbox, PARALLEL, OTHER)
        assert json.load(call(server, sandbox, "usage"))["network"]["sentBytes"] == 5 * MIB + 3

    def test_an_update_keeps_the_count_and_a_higher_limit_goes_on(self, server, sandboxes):
        sandbox = sandboxes()
        limit(server, sandbox, **{SITE: 10})
        assert attempt(sandbox, "echo", SITE).get("said") == "hello"
        sandbox.update_network({})
        limit(server, sandbox, **{SITE: 10, OTHER: 1})
        assert attempt(sandbox, "echo", SITE).get("said") == "hello"
        assert attempt(sandbox, "echo", SITE, 7, "x").get("said") is None
        limit(server, sandbox, **{SITE: 15})
        assert attempt(sandbox, "echo", SITE).get("said") == "hello"

    @pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["clean", "killed"])
    def test_after_a_restart_it_is_as_used_up(self, mortal, how):  # noqa: F811
        sandbox = furnished(mortal.create())
        limit(mortal, sandbox, **{SITE: 10})
        assert attempt(sandbox, "echo", SITE).get("said") == "hello"
        if how == signal.SIGKILL:
            until(lambda: written_down(mortal, sandbox) == 5, within=20)
        mortal.stop(how)
        mortal.start()
        assert attempt(sandbox, "echo", SITE).get("said") == "hello"
        assert attempt(sandbox, "echo", SITE, 7, "x").get("said") is None
        sandbox.kill()

    def test_by_name(self, server, sandboxes):
        sandbox = sandboxes(network={"allow_out": ["*.example.com"], **ALL})
        limit(server, sandbox, **{"api.example.com": 250})
        assert site(attempt(sandbox, "http", SITE, "api.example.com")) == SITE
        until(lambda: attempt(sandbox, "http", SITE, "api.example.com").get("status") == 429)
        assert site(attempt(sandbox, "http", SITE, "www.example.com")) == SITE

    def test_opened_connections(self, trusting, sandboxes):  # noqa: F811
        sandbox = sandboxes(on=trusting)
        body = {"allow": ["* api.example.com/*"], "bytes": {"api.example.com": {"sent": 5000}}}
        call(trusting, sandbox, "requests", "PUT", body)
        status = lambda *options: fetch(sandbox, "https://api.example.com/", "-o /tmp/answer -w '%{http_code}'", *options)[1][-3:]  # noqa: E731
        assert status() == "200"
        run(sandbox, "head -c 20000 /dev/zero > /tmp/body")
        assert status("--data-binary @/tmp/body") in ("429", "502", "000")
        assert status() == "429"
        assert "used up" in run(sandbox, "cat /tmp/answer")[1]
        sent = sum(event["sentBytes"] for event in events(trusting, sandbox, decision="ended", name="api.example.com"))
        assert sent <= 5000

    def test_bad_ones(self, server, sandboxes):
        sandbox = sandboxes()
        for bad in [{"a.b": {}}, {"a.b": {"sent": 0}}, {"10.0.0.0/99": {"sent": 1}}, {"a.b": {"bytes": 1}}]:
            try:
                call(server, sandbox, "requests", "PUT", {"bytes": bad})
                raise AssertionError(bad)
            except urllib.error.HTTPError as error:
                assert error.code == 400
