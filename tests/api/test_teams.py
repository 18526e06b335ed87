"""What is of one team is not there for another, on every route that names a thing."""

import json
import re
import uuid

import pytest

from conftest import UNKNOWN, is_error
from harness import program

NAMED = re.compile(r"\{(\w+)\}")


@pytest.fixture(scope="module")
def soulbox():
    return program.soulbox()


@pytest.fixture(scope="module")
def stranger(soulbox):
    """A key of another team on the same server."""
    slug = f"t-{uuid.uuid4().hex[:12]}"
    soulbox("team", "create", slug)
    return soulbox("key", "create", "stranger", "--team", slug).stdout.strip()


@pytest.fixture
def ours(api, tag):
    """One of everything that can be named, with the words that must not leak."""
    sandbox = api.create(secure=True, network={"allowPublicTraffic": False}, metadata={"tag": tag}, envVars={"TAG": tag}).json()
    secret = api("POST", "/secrets", json={"name": f"teams-{tag[:12]}", "value": f"value-{tag}", "metadata": {"tag": tag}}).json()
    key = api("POST", "/api-keys", json={"name": f"key-{tag}"}).json()
    yield {
        "sandboxID": sandbox["sandboxID"],
        "secretID": secret["secretID"],
        "keyID": key["id"],
        "tag": tag,
        "tokens": [sandbox["envdAccessToken"], sandbox["trafficAccessToken"], key["key"]],
    }
    api("DELETE", f"/secrets/{secret['secretID']}")
    api("DELETE", f"/api-keys/{key['id']}")


# Bodies that the routes take, so that a refusal is about whose the thing is.
BODIES = {
    "timeout": {"timeout": 60},
    "refreshes": {"duration": 60},
    "connect": {"timeout": 60},
    "resume": {"timeout": 60},
    "network": {"denyOut": ["0.0.0.0/0"]},
    "requests": {"allow": ["GET a.example.com/*"]},
    "passes": {"port": 3000},
    "domains": {"domains": ["teams.shop.example"], "port": 3000},
    "secrets": {"value": "stolen"},
    "api-keys": {"name": "stolen"},
}


def body_for(path):
    return next((body for word, body in BODIES.items() if word in path), {})


def operations(api):
    paths = api("GET", "/soulbox/v1/openapi.json").json()["paths"]
    for path, item in paths.items():
        for method in item.keys() & {"get", "put", "post", "delete", "patch"}:
            yield method.upper(), path


def test_every_route_that_names_a_thing(api, ours, stranger):
    as_stranger, asked = {"X-API-Key": stranger}, 0
    absent = {"sandboxID": UNKNOWN, "secretID": "sec_" + "0" * 20, "keyID": str(uuid.UUID(int=0))}
    for method, path in operations(api):
        names = NAMED.findall(path)
        if not names or not set(names) <= absent.keys():
            continue
        fill = lambda ids: NAMED.sub(lambda m: ids[m[1]], path)  # noqa: E731
        options = {"json": body_for(path)} if method in ("POST", "PUT", "PATCH") else {}
        theirs = api(method, fill(ours), key=False, headers=as_stranger, **options)
        nobodys = api(method, fill(absent), key=False, headers=as_stranger, **options)
        # As if it were not there, in the same words.
        assert theirs.status_code == nobodys.status_code, (method, path, theirs.text, nobodys.text)
        same = theirs.text
        for name in names:
            same = same.replace(ours[name], absent[name])
        assert same == nobodys.text, (method, path)
        if theirs.status_code != 501 and "metrics" not in path:
            is_error(theirs, 404)
        for word in [ours["tag"], *ours["tokens"]]:
            assert word not in theirs.text, (method, path)
        asked += 1
    assert asked >= 20, asked
    # All of it is as it was.
    assert api("GET", f"/sandboxes/{ours['sandboxID']}").json()["metadata"] == {"tag": ours["tag"]}
    assert api("GET", f"/secrets/{ours['secretID']}").json()["currentVersion"] == 1
    assert [key["name"] for key in api("GET", "/api-keys").json() if key["id"] == ours["keyID"]] == [f"key-{ours['tag']}"]


def test_no_list_shows_what_is_of_another_team(api, ours, stranger):
    as_stranger, asked = {"X-API-Key": stranger}, 0
    secret_name = api("GET", f"/secrets/{ours['secretID']}").json()["name"]
    words = [ours["sandboxID"], ours["secretID"], ours["keyID"], secret_name, *ours["tokens"]]
    for method, path in operations(api):
        if method == "GET" and not NAMED.search(path) and "openapi" not in path:
            answer = api(method, path, key=False, headers=as_stranger)
            assert not [word for word in [ours["tag"], *words] if word in answer.text], path
            asked += 1
    assert asked >= 8, asked
    metrics = api("GET", f"/sandboxes/metrics?sandbox_ids={ours['sandboxID']}", key=False, headers=as_stranger)
    assert ours["sandboxID"] not in json.dumps(metrics.json())


def test_names_are_each_teams_own(api, ours, stranger):
    as_stranger = {"X-API-Key": stranger}
    name = api("GET", f"/secrets/{ours['secretID']}").json()["name"]
    made = api("POST", "/secrets", key=False, headers=as_stranger, json={"name": name, "value": "theirs"})
    assert made.status_code == 201 and made.json()["secretID"] != ours["secretID"]
    assert api("DELETE", f"/secrets/{name}", key=False, headers=as_stranger).status_code == 204
    # An environment of theirs can't use what is ours.
    resolve = {**as_stranger, "SoulBox-Env-Secrets": "resolve"}
    body = {"templateID": api.template, "timeout": 60, "envVars": {"A": f"${{{name}}}"}}
    is_error(api("POST", "/sandboxes", key=False, headers=resolve, json=body), 400)


def test_a_key_is_of_the_team_that_it_was_made_for(api, soulbox, stranger):
    mine = api("GET", "/teams").json()
    theirs = api("GET", "/teams", key=False, headers={"X-API-Key": stranger}).json()
    assert mine[0]["teamID"] != theirs[0]["teamID"]
    listed = soulbox.json("team", "list")
    assert {mine[0]["teamID"], theirs[0]["teamID"]} <= {team["id"] for team in listed}
    slug = next(team["slug"] for team in listed if team["id"] == theirs[0]["teamID"])
    names = lambda *flags: [key["name"] for key in soulbox.json("key", "list", *flags)]  # noqa: E731
    assert "stranger" in names("--team", slug) and "stranger" not in names()
