"""Derived templates: made once, from what made them, and pruned when nobody needs them."""

import concurrent.futures
import os
import signal
import time
import uuid
from pathlib import Path

import pytest
from conftest import TEMPLATE

from harness import own

STORE = Path(os.environ["SOULBOX_DATA_DIR"]) / "store/templates"


@pytest.fixture
def mark():
    """Makes a plan unlike any other."""
    return uuid.uuid4().hex


def test_files_and_steps_are_in_every_sandbox_of_it(api, sandbox_of, mark):
    name = api.derived(
        files=[("a/b.txt", mark)],
        steps=["cp a/b.txt /root-made; echo $WHO > by-step", {"command": ["touch", "by-user"], "user": "user", "cwd": "/tmp"}],
        env={"MARK": mark},
        target="/srv/put",
        workdir="/srv/put",
    )
    for run in (sandbox_of(name), sandbox_of(name)):
        assert run("cat", "/srv/put/a/b.txt", "/root-made") == mark * 2
        assert run("sh", "-c", "echo $MARK; pwd").split() == [mark, "/srv/put"]
        assert run("sh", "-c", "ls -A /tmp") == "", "what steps leave in /tmp does not stay"
        assert run("stat", "-c", "%U %a", "/root-made").split() == ["root", "644"]


def test_sandboxes_of_it_do_not_change_it(api, sandbox_of, mark):
    name = api.derived(files=[("x", mark)], target="/srv")
    first = sandbox_of(name)
    first("sh", "-c", "echo changed > /srv/x; rm -rf /etc/passwd", user="root")
    assert sandbox_of(name)("cat", "/srv/x") == mark


def test_the_same_is_made_once_and_anything_else_is_something_else(api, mark):
    name = api.derived(files=[("x", mark)])
    again = api.derive(files=[("x", mark)])
    assert (again.status_code, again.json()["name"]) == (200, name)
    assert api.derive(files=[("x", mark + "!")]).json()["name"] != name
    assert api.derive(files=[("y", mark)]).json()["name"] != name
    assert api.derive(files=[("x", mark)], env={"A": "b"}).json()["name"] != name


def test_those_who_ask_at_the_same_time_wait_for_one_build(api, mark):
    def ask(_):
        return api.derived(steps=[f"sleep 1; date +%N > /made; : {mark}"])

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        names = set(pool.map(ask, range(6)))
    assert len(names) == 1
    [name] = names
    assert len(list(STORE.glob(f"{name}-*"))) == 1
    assert not list(STORE.glob(".build-*"))


def test_layers_lie_on_top_of_each_other_and_hide_what_is_gone(api, sandbox_of, mark):
    below = api.derived(steps=[f"mkdir -p /srv/d; echo {mark} > /srv/d/old; echo a > /srv/gone"])
    above = api.derived(parent=below, steps=["rm -r /srv/gone /srv/d; mkdir /srv/d; echo new > /srv/d/new"])
    run = sandbox_of(above)
    assert run("sh", "-c", "cd /srv; echo * d/*").split() == ["d", "d/new"]
    assert sandbox_of(below)("cat", "/srv/d/old").strip() == mark


def test_a_failed_step_says_what_it_said_and_leaves_nothing(api, mark):
    answer = api.derive(steps=[f"echo why-{mark} >&2; exit 3"])
    state = api.built(answer.json()["name"])
    assert state["state"] == "failed"
    assert f"why-{mark}" in state["error"] and "exit status 3" in state["error"]
    assert not list(STORE.glob(f"{state['name']}-*")) and not list(STORE.glob(".build-*"))
    api.prune()
    assert state["name"] not in api.names()


def test_a_step_has_a_time_limit(api, mark):
    answer = api.derive(steps=[{"command": ["sleep", "60"], "timeout": 1, "env": {"A": mark}}])
    assert api.built(answer.json()["name"])["state"] == "failed"


def test_prune_spares_what_is_used_and_what_others_stand_on(api, soulbox, sandbox_of, mark):
    below = api.derived(steps=[f": {mark}"])
    above = api.derived(parent=below, steps=["true"])
    run = sandbox_of(above)
    assert not {below, above} & api.prune()
    assert run("echo", "alive") == "alive\n"
    soulbox("sandbox", "kill", run.id)
    assert not {below, above} & api.prune(unused_for=3600), "used lately"
    assert {below, above} <= api.prune()
    assert not {below, above} & api.names()
    assert not list(STORE.glob(f"{below}-*")) and not list(STORE.glob(f"{above}-*"))
    # Nobody, the pool of seats included, keeps it from being made again.
    assert api.derived(steps=[f": {mark}"]) == below


def test_a_step_is_tried_again_when_the_network_failed_it(api, mark):
    count = "echo >>/srv/tries; [ $(wc -l </srv/tries) -ge 3 ]"
    script = f"{count} || {{ echo 'Temporary failure in name resolution' >&2; exit 1; }}; : {mark}"
    command = ["sh", "-c", script]
    assert api.built(api.derive(steps=[{"command": command}]).json()["name"])["state"] == "failed"
    assert api.derived(steps=[{"command": command, "retry": True}, {"command": ["true"]}])
    hopeless = {"command": ["sh", "-c", f"echo >>/srv/tries; wc -l </srv/tries >&2; echo 404 >&2; exit 1; : {mark}"], "retry": True}
    assert "1\n404" in api.built(api.derive(steps=[hopeless]).json()["name"])["error"], "tried once"


def test_steps_reach_the_internet_alone_and_only_if_the_plan_says_so(api, mark):
    script = f"curl -fsS -m 5 http://192.168.77.7/; : {mark}"
    told = api.built(api.derive(steps=[script], internet=True).json()["name"])
    assert told["state"] == "failed" and "refused 192.168.77.7:80" in told["error"]
    told = api.built(api.derive(steps=[script]).json()["name"])
    assert told["state"] == "failed" and "refused" not in told["error"]


@pytest.mark.parametrize(
    "bad",
    [
        {"parent": "nobody-has-this"},
        {"files": [("../out", "x")]},
        {"files": [("/etc/passwd", "x")]},
        {"files": [("", "x")]},
        {"steps": [{"command": []}]},
        {"steps": [{"command": ["true"], "timeout": 0}]},
        {"target": "relative"},
        {"path": ["relative"]},
        {"path": ["/a:/b"]},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_plan_that_makes_no_sense_is_refused(api, bad):
    before = api.names()
    assert api.derive(**bad).status_code in (400, 404)
    assert api.names() == before


def test_a_hostile_layer_gains_nothing(api, sandbox_of, mark):
    """What root inside can leave in a layer, with the host's eyes and from a sandbox on top of it."""
    attack = f"""
        : {mark}
        cp /bin/sh /srv/setuid; chmod 6755 /srv/setuid
        mkfifo /srv/pipe
        mknod /srv/disk b 8 0 || true
        mknod /srv/hole c 0 0 || true
        ln -s /etc/shadow /srv/link; ln -s / /srv/root
        for name in trusted.overlay.opaque trusted.overlay.redirect trusted.overlay.metacopy \\
                    user.overlay.opaque user.overlay.redirect security.capability; do
            python3 -c 'import os,sys; os.setxattr("/srv", sys.argv[1], b"/../../../etc")' $name 2>/dev/null || true
        done
    """
    name = api.derived(steps=[attack])
    run = sandbox_of(name)
    outside = Path("/etc/shadow").read_text()
    assert run("sh", "-c", "cat /srv/link 2>/dev/null || true", user="root") != outside
    assert run("sh", "-c", "test -b /srv/disk && head -c1 /srv/disk || echo none").strip() == "none"
    uid = int(run("sh", "-c", "/srv/setuid -pc 'cat /proc/self/uid_map'").split()[1])
    assert uid >= 1 << 30, "root inside is nobody outside, whatever a layer says"
    [home] = STORE.glob(f"{name}-*")
    assert oct(STORE.stat().st_mode & 0o777) == "0o700", "a set-user-id file of root lies below"
    # Nothing can be written to it any more, by the host's root neither.
    with pytest.raises(OSError):
        (home / "rootfs/upper/new").touch()


def test_a_team_does_not_see_what_another_derived(api, soulbox, mark):
    name = api.derived(files=[("x", mark)])
    slug = f"t{mark[:8]}"
    soulbox("team", "create", slug)
    key = soulbox("key", "create", "other", "--team", slug).stdout.strip().split()[-1]
    headers = {"X-API-Key": key}
    listed = api.http.get("/soulbox/v1/templates", headers=headers).json()
    assert name not in {template["name"] for template in listed}
    for path in (f"/soulbox/v1/templates/{name}", f"/templates/aliases/{name}"):
        assert api.http.get(path, headers=headers).status_code == 404
    made = api.http.post("/v2/sandboxes", headers=headers, json={"templateID": name})
    assert made.status_code == 404, made.text
    on_top = {"parent": name, "files": [], "steps": []}
    assert api.http.post("/soulbox/v1/templates", headers=headers, json=on_top).status_code == 404
    pruned = api.http.post("/soulbox/v1/templates/prune", headers=headers, json={"unusedFor": 0}).json()
    assert name not in {template["name"] for template in pruned}
    # The same content is another template for another team: that it was there already tells nothing.
    theirs = api.http.post(
        "/soulbox/v1/templates",
        headers=headers,
        json={"parent": TEMPLATE, "files": [{"path": "x", "content": "eA=="}]},
    )
    assert theirs.status_code == 202


def test_all_steps_together_have_a_time_limit(api, mark):
    steps = [f"echo first; : {mark}", "echo second words; sleep 60"]
    began = time.monotonic()
    state = api.built(api.derive(steps=steps, timeout=6).json()["name"])
    assert time.monotonic() - began < 40 and state["state"] == "failed"
    assert "not done within 6 s: running sh, part 3 of 4, was under way\nsecond words" in state["error"]
    for bad in (0, 1201):
        assert api.derive(timeout=bad).status_code == 400


def test_a_build_is_listed_and_stopped(api, soulbox, mark):
    name = api.derive(steps=[f"echo at work; sleep 60; : {mark}"]).json()["name"]
    deadline = time.monotonic() + 20
    while True:
        [row] = [template for template in soulbox.json("template", "list") if template["name"] == name]
        assert row["state"] == "building" and time.monotonic() < deadline
        if row["step"] == "sh: at work":
            break
        time.sleep(0.1)
    assert row["building_since"].startswith("20")
    [line] = [line for line in soulbox("template", "list").stdout.splitlines() if name in line]
    assert "building for " in line and " s: " in line and "at work" in line
    path = f"/soulbox/v1/templates/{name}/build"
    slug = f"s{mark[:8]}"
    soulbox("team", "create", slug)
    key = soulbox("key", "create", "other", "--team", slug).stdout.strip().split()[-1]
    assert api.http.delete(path, headers={"X-API-Key": key}).status_code == 404
    assert soulbox.json("template", "stop", name) == {"name": name, "stopped": True}
    state = api.http.get(f"/soulbox/v1/templates/{name}").json()
    assert state["state"] == "failed" and "was stopped" in state["error"] and "building_since" not in state
    assert not list(STORE.glob(f"{name}-*"))
    assert api.http.delete(path).status_code == 409
    assert api.http.delete(f"/soulbox/v1/templates/{TEMPLATE}/build").status_code == 409
    api.prune()


def test_a_preparation_counts_as_a_sandbox(mark):
    with own.lent("--max-sandboxes", "2") as server:
        http = server.http()

        def derive(word):
            steps = [{"command": ["sh", "-c", f"sleep 60; : {mark} {word}"]}]
            return http.post("/soulbox/v1/templates", json={"parent": "host", "steps": steps})

        def refused(answer):
            assert answer.status_code == 429, answer.text
            assert answer.json()["soulbox"]["code"] == "SB-LIMIT" and "2" in answer.json()["message"]

        assert http.post("/soulbox/v1/templates/host/build").status_code in (200, 202)
        deadline = time.monotonic() + 20
        while http.get("/soulbox/v1/templates/host").json()["state"] != "ready":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        name = derive("first").json()["name"]
        while "running" not in http.get(f"/soulbox/v1/templates/{name}").json().get("step", ""):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        made = http.post("/v2/sandboxes", json={"templateID": "host"})
        assert made.status_code == 201
        refused(http.post("/v2/sandboxes", json={"templateID": "host"}))
        refused(derive("second"))
        assert derive("first").status_code == 202, "to wait for what is under way takes nothing"
        assert http.delete(f"/soulbox/v1/templates/{name}/build").status_code == 204
        while http.post("/v2/sandboxes", json={"templateID": "host"}).status_code != 201:
            assert time.monotonic() < deadline + 10, "its place is free again"
            time.sleep(0.1)


def test_a_team_has_so_many_templates_made_at_a_time(mark):
    with own.lent() as server:
        http = server.http()
        answers = [
            http.post("/soulbox/v1/templates", json={"parent": "host", "steps": [{"command": ["sh", "-c", f"sleep 60; : {mark} {n}"]}]})
            for n in range(17)
        ]
        assert [answer.status_code for answer in answers] == [202] * 16 + [429], answers[-1].text
        assert "templates in preparation" in answers[-1].json()["message"]
        for answer in answers[:16]:
            assert http.delete(f"/soulbox/v1/templates/{answer.json()['name']}/build").status_code == 204


def test_what_a_preparation_is_refused_is_in_the_log(mark):
    with own.lent() as server:
        http = server.http()
        # It fails nobody, so that no error tells of it; more than is logged.
        script = f"for n in $(seq 60); do timeout 2 bash -c ': </dev/tcp/192.168.77.7/80'; done; : {mark}"
        body = {"parent": "host", "internet": True, "steps": [{"command": ["sh", "-c", script]}]}
        name = http.post("/soulbox/v1/templates", json=body).json()["name"]
        deadline = time.monotonic() + 60
        while (state := http.get(f"/soulbox/v1/templates/{name}").json())["state"] == "building":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert state["state"] == "ready", state
        lines = [line for line in server.log.read_text().splitlines() if "refused to a preparation" in line]
        assert lines and all("192.168.77.7:80" in line and name in line for line in lines)
        assert len(lines) <= 20


def test_a_killed_server_leaves_no_half_of_one(mark):
    with own.lent() as server:
        slow = {"parent": "host", "internet": True, "steps": [{"command": ["sh", "-c", f"sleep 120; : {mark}"]}]}
        http = server.http()
        name = http.post("/soulbox/v1/templates", json=slow).json()["name"]
        done = http.post("/soulbox/v1/templates", json={"parent": "host", "steps": [{"command": ["true"]}]}).json()["name"]
        deadline = time.monotonic() + 60
        while {t["name"]: t["state"] for t in http.get("/soulbox/v1/templates").json()}[done] != "ready":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        store = Path(server.data_dir) / "store/templates"
        assert list(store.glob(".build-*"))
        server.stop(signal.SIGKILL)
        server.start()
        assert not list(store.glob(".build-*"))
        states = {t["name"]: t["state"] for t in http.get("/soulbox/v1/templates").json()}
        assert states.get(done) == "ready" and name not in states
        assert http.post("/v2/sandboxes", json={"templateID": done}).status_code == 201
