"""Routes of sandboxes: what they answer, field by field."""

import datetime
import time
import uuid

import pytest

from conftest import UNKNOWN, is_error


def when(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def test_v1_create(api):
    answer = api.create(metadata={"a": "b"}, secure=True)
    assert answer.status_code == 201
    made = answer.json()
    assert {"sandboxID", "templateID", "clientID", "envdVersion", "envdAccessToken"} <= set(made)
    assert made["clientID"] and "-" not in made["clientID"]
    assert None not in [made.get("alias", ""), made.get("envdAccessToken")]
    assert [int(part) for part in made["envdVersion"].split(".")] >= [0, 6, 4]


def test_v1_create_without_secure_has_no_token(api):
    made = api.create().json()
    assert "envdAccessToken" not in made


def test_v1_default_life_is_fifteen_seconds(api):
    answer = api("POST", "/sandboxes", json={"templateID": api.template})
    api.made.append(answer.json()["sandboxID"])
    info = api("GET", f"/sandboxes/{answer.json()['sandboxID']}").json()
    assert 14 <= (when(info["endAt"]) - when(info["startedAt"])).total_seconds() <= 16


def test_v2_create_is_always_secure_and_lives_five_minutes(api):
    answer = api("POST", "/v2/sandboxes", json={"templateID": api.template})
    made = answer.json()
    api.made.append(made["sandboxID"])
    assert answer.status_code == 201 and made["envdAccessToken"]
    info = api("GET", f"/sandboxes/{made['sandboxID']}").json()
    assert 299 <= (when(info["endAt"]) - when(info["startedAt"])).total_seconds() <= 301


def test_detail(api, sandbox):
    info = api("GET", f"/sandboxes/{sandbox['sandboxID']}").json()
    required = {"templateID", "sandboxID", "clientID", "startedAt", "endAt", "cpuCount", "memoryMB", "diskSizeMB", "state", "envdVersion"}
    assert required <= set(info)
    assert info["state"] == "running"
    assert info["envdAccessToken"] == sandbox["envdAccessToken"]
    for optional in ("network", "lifecycle", "alias"):
        assert info.get(optional, "") is not None, "optional fields are left out, never null"


def test_an_id_with_the_client_id_glued_on(api, sandbox):
    glued = f"{sandbox['sandboxID']}-{sandbox['clientID']}"
    assert api("GET", f"/sandboxes/{glued}").json()["sandboxID"] == sandbox["sandboxID"]
    assert api("DELETE", f"/sandboxes/{glued}").status_code == 204


def test_lists(api, tag):
    ids = [api.create(metadata={"tag": tag}).json()["sandboxID"] for _ in range(3)]
    v1 = [s["sandboxID"] for s in api("GET", "/sandboxes").json()]
    assert set(ids) <= set(v1)
    page = api("GET", f"/v2/sandboxes?metadata=tag%3D{tag}&limit=2")
    assert [s["sandboxID"] for s in page.json()] == [ids[2], ids[1]]
    assert page.headers["x-next-token"]
    rest = api("GET", f"/v2/sandboxes?metadata=tag%3D{tag}&limit=2&nextToken={page.headers['x-next-token']}")
    assert [s["sandboxID"] for s in rest.json()] == [ids[0]]
    assert not rest.headers.get("x-next-token")
    assert api("GET", f"/v2/sandboxes?metadata=tag%3D{tag}&state=running%2Cpaused").json() != []
    assert api("GET", f"/v2/sandboxes?metadata=tag%3D{tag}&state=paused").json() == []


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=-1", "limit=abc", "state=sleeping", "nextToken=rubbish", "metadata=no-equals-sign", "order=up", "startedAfter=yesterday"],
)
def test_wrong_queries(api, query):
    is_error(api("GET", f"/v2/sandboxes?{query}"), 400)


def test_kill(api, sandbox):
    path = f"/sandboxes/{sandbox['sandboxID']}"
    answer = api("DELETE", path)
    assert answer.status_code == 204 and answer.content == b""
    is_error(api("DELETE", path), 404)
    is_error(api("GET", path), 404)


@pytest.mark.parametrize("path", ["/sandboxes/{}", "/sandboxes/{}/logs", "/v2/sandboxes/{}/logs"])
def test_unknown_sandbox(api, path):
    is_error(api("GET", path.format(UNKNOWN)), 404)


@pytest.mark.parametrize("bad", ["UPPER", "with%20space", "a%2Fb", "x" * 400, "..%2f..%2fetc"])
def test_an_id_that_is_none(api, bad):
    answer = api("GET", f"/sandboxes/{bad}")
    assert answer.status_code in (400, 404)
    is_error(answer, answer.status_code)


def test_timeout(api, sandbox):
    path = f"/sandboxes/{sandbox['sandboxID']}"
    before = datetime.datetime.now(datetime.timezone.utc)
    assert api("POST", path + "/timeout", json={"timeout": 42}).status_code == 204
    after = datetime.datetime.now(datetime.timezone.utc)
    # Times are told in whole milliseconds, perhaps seconds.
    end, off = when(api("GET", path).json()["endAt"]) - datetime.timedelta(seconds=42), datetime.timedelta(seconds=1)
    assert before - off <= end <= after + off
    is_error(api("POST", f"/sandboxes/{UNKNOWN}/timeout", json={"timeout": 42}), 404)
    is_error(api("POST", path + "/timeout", json={"timeout": "soon"}), 400)
    is_error(api("POST", path + "/timeout", json={}), 400)


def test_refreshes_only_extend(api, sandbox):
    path = f"/sandboxes/{sandbox['sandboxID']}"
    api("POST", path + "/timeout", json={"timeout": 100})
    end = api("GET", path).json()["endAt"]
    assert api("POST", path + "/refreshes", json={"duration": 10}).status_code == 204
    assert api("GET", path).json()["endAt"] == end
    assert api("POST", path + "/refreshes", json={"duration": 3000}).status_code == 204
    assert when(api("GET", path).json()["endAt"]) > when(end) + datetime.timedelta(seconds=2000)
    assert api("POST", path + "/refreshes").status_code == 204
    is_error(api("POST", path + "/refreshes", json={"duration": 4000}), 400)


def test_connect(api, sandbox):
    path = f"/sandboxes/{sandbox['sandboxID']}/connect"
    answer = api("POST", path, json={"timeout": 600})
    assert answer.status_code == 200
    assert answer.json()["envdAccessToken"] == sandbox["envdAccessToken"]
    newer = api("POST", "/v2" + path, json={})
    assert newer.status_code == 200 and newer.json()["sandboxID"] == sandbox["sandboxID"]
    is_error(api("POST", f"/sandboxes/{UNKNOWN}/connect", json={"timeout": 1}), 404)
    is_error(api("POST", f"/v2/sandboxes/{UNKNOWN}/connect", json={}), 404)


def test_metrics(api, sandbox):
    path = f"/sandboxes/{sandbox['sandboxID']}/metrics"
    deadline = time.monotonic() + 20
    while not (points := api("GET", path).json()):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    names = {"timestamp", "timestampUnix", "cpuCount", "cpuUsedPct", "memUsed", "memTotal", "memCache", "diskUsed", "diskTotal"}
    assert names <= set(points[0])
    now = int(time.time())
    assert api("GET", f"{path}?start={now - 7200}&end={now - 3600}").json() == []
    is_error(api("GET", f"{path}?start={now}&end={now - 10}"), 400)
    batch = api("GET", f"/sandboxes/metrics?sandbox_ids={sandbox['sandboxID']},{UNKNOWN}").json()["sandboxes"]
    assert list(batch) == [sandbox["sandboxID"]]
    is_error(api("GET", "/sandboxes/metrics?sandbox_ids=" + ",".join("i%020d" % n for n in range(101))), 400)


def test_logs(api, sandbox):
    path = f"/sandboxes/{sandbox['sandboxID']}/logs"
    first = api("GET", path)
    assert first.status_code == 200 and {"logs", "logEntries"} <= set(first.json())
    second = api("GET", "/v2" + path)
    assert second.status_code == 200
    for entry in second.json()["logs"]:
        assert {"timestamp", "level", "message", "fields"} <= set(entry)
    assert api("GET", "/v2" + path + "?search=nowhere-to-be-found").json()["logs"] == []
    is_error(api("GET", "/v2" + path + "?direction=sideways"), 400)
    is_error(api("GET", "/v2" + path + "?limit=-1"), 400)


def test_idempotency(api, tag):
    key = {"Idempotency-Key": str(uuid.uuid4())}
    first = api.create("/v2/sandboxes", headers=key, metadata={"tag": tag})
    again = api.create("/v2/sandboxes", headers=key, metadata={"tag": tag})
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    other = is_error(api.create("/v2/sandboxes", headers=key, metadata={"tag": "x"}), 422)
    assert other["error_code"] == "idempotency_request_mismatch"
    assert len(api("GET", f"/v2/sandboxes?metadata=tag%3D{tag}").json()) == 1
    is_error(api.create(headers={"Idempotency-Key": "Not Allowed!"}), 400)
    is_error(api.create(headers={"Idempotency-Key": "x" * 256}), 400)


def test_parallel_requests_with_one_key_make_one_sandbox(api, tag):
    from concurrent.futures import ThreadPoolExecutor

    key = {"Idempotency-Key": str(uuid.uuid4())}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: api.create("/v2/sandboxes", headers=key, metadata={"tag": tag}), range(8)))
    made = {a.json()["sandboxID"] for a in answers if a.status_code == 201}
    assert len(made) == 1
    assert {a.status_code for a in answers} <= {201, 409}
    assert len(api("GET", f"/v2/sandboxes?metadata=tag%3D{tag}").json()) == 1


def test_bodies_may_be_chunked_or_absent(api, sandbox):
    def pieces():
        yield b'{"timeout":'
        yield b" 77}"

    path = f"/sandboxes/{sandbox['sandboxID']}"
    headers = {"Content-Type": "application/json"}
    assert api("POST", path + "/timeout", content=pieces(), headers=headers).status_code == 204
    assert api("GET", path, headers=headers).status_code == 200
    assert api("DELETE", path, headers=headers).status_code == 204
