"""Names of their own that lead to sandboxes, and what nobody gets by one."""

import os
import uuid

import httpx
import pytest

from conftest import PORT
from harness import program


class Team:
    def __init__(self, key):
        self.http = httpx.Client(base_url=os.environ["E2B_API_URL"], headers={"X-API-Key": key}, timeout=60)

    def put(self, sandbox_id, *names, port=PORT, **headers):
        body = {"domains": list(names), "port": port}
        return self.http.put(f"/soulbox/v1/sandboxes/{sandbox_id}/domains", json=body, headers=headers)

    def get(self, sandbox_id):
        return self.http.get(f"/soulbox/v1/sandboxes/{sandbox_id}/domains").json()


@pytest.fixture(scope="module")
def ours():
    return Team(os.environ["E2B_API_KEY"])


@pytest.fixture(scope="module")
def theirs():
    slug = f"d-{uuid.uuid4().hex[:12]}"
    soulbox = program.soulbox()
    soulbox("team", "create", slug)
    return Team(soulbox("key", "create", "domains", "--team", slug).stdout.strip())


@pytest.fixture
def name():
    return f"{uuid.uuid4().hex[:12]}.shop.example"


def refused(answer, status, code):
    assert answer.status_code == status, answer.text
    assert answer.json()["soulbox"]["code"] == code
    return answer.json()["message"]


def test_a_name_leads_to_the_port_until_it_is_taken_away(gateway, ours, app, name):
    before = gateway.get("/sandboxes", {"Host": name})
    assert before.status_code == 401, "it is the API's as long as it is nobody's"
    assert ours.put(app.sandbox_id, name, f"www.{name}").status_code == 204
    assert ours.get(app.sandbox_id) == {"domains": sorted([name, f"www.{name}"]), "port": PORT}
    for host in (name, f"WWW.{name.upper()}.", f"{name}:8443"):
        assert gateway.get("/", {"Host": host}).text == "hello"
    assert ours.put(app.sandbox_id, name).status_code == 204
    assert gateway.get("/sandboxes", {"Host": f"www.{name}"}).status_code == 401
    assert ours.http.put(f"/soulbox/v1/sandboxes/{app.sandbox_id}/domains", json={"domains": []}).status_code == 204
    assert ours.get(app.sandbox_id) == {"domains": []}
    assert gateway.get("/sandboxes", {"Host": name}).status_code == 401


def test_a_name_is_one_sandboxs_and_stays_its_teams_when_that_ends(gateway, ours, theirs, app, name):
    other = ours.http.post("/sandboxes", json={"templateID": os.environ["SOULBOX_TEST_TEMPLATE"], "timeout": 300}).json()["sandboxID"]
    stranger = theirs.http.post("/sandboxes", json={"templateID": os.environ["SOULBOX_TEST_TEMPLATE"], "timeout": 300}).json()["sandboxID"]
    try:
        assert ours.put(other, name, port=9).status_code == 204
        for team, sandbox in ((theirs, stranger), (ours, app.sandbox_id)):
            message = refused(team.put(sandbox, f"free.{name}", name), 409, "SB-CONFLICT")
            assert name in message and other not in message
            assert team.get(sandbox)["domains"] == [], "all or nothing"
        # Nor is the sandbox of another team named.
        refused(theirs.put(other, f"free.{name}"), 404, "SB-NOT-FOUND")
        assert ours.http.delete(f"/sandboxes/{other}").status_code == 204
        assert gateway.get("/sandboxes", {"Host": name}).status_code == 401
        # DNS still leads here: it is kept for the team, until that gives it up.
        refused(theirs.put(stranger, name), 409, "SB-CONFLICT")
        assert ours.put(app.sandbox_id, name).status_code == 204
        assert ours.put(app.sandbox_id).status_code == 204
        assert theirs.put(stranger, name).status_code == 204
    finally:
        for team, sandbox in ((ours, other), (theirs, stranger)):
            team.http.delete(f"/sandboxes/{sandbox}")


def test_names_of_the_server_are_refused(gateway, theirs, ours, app, name):
    domain = gateway.domain.split(":")[0]
    for bad in (
        "localhost",
        "api.localhost",
        "box",
        "127.0.0.1",
        "*.shop.example",
        "a b",
        "",
        f"api.{domain}",
        f"{PORT}-{app.sandbox_id}.localhost",
        f"{PORT}-{app.sandbox_id}.shop.example",
    ):
        refused(ours.put(app.sandbox_id, bad), 400, "SB-INVALID")
    # Nor what the operator did not open.
    assert "--custom-domain" in refused(ours.put(app.sandbox_id, "shop.example.com"), 400, "SB-INVALID")
    refused(ours.put(app.sandbox_id, name, port=49983), 400, "SB-INVALID")
    refused(ours.put(app.sandbox_id, name, port=0), 400, "SB-INVALID")
    refused(ours.put(app.sandbox_id, *[f"{n}.{name}" for n in range(33)]), 429, "SB-LIMIT")
    assert ours.get(app.sandbox_id) == {"domains": []}


def test_who_takes_a_name_of_the_api_gets_nobodys_key(gateway, ours, app, name):
    """Should an operator open the name of the API, what opens something never reaches a sandbox by it."""
    assert ours.put(app.sandbox_id, name).status_code == 204
    try:
        key = os.environ["E2B_API_KEY"]
        for header in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}):
            answer = gateway.get("/soulbox/v1/info", {"Host": name, **header})
            assert answer.status_code == 200 and "engine" in answer.json()
        wrong = gateway.get("/soulbox/v1/info", {"Host": name, "X-API-Key": "e2b_00"})
        assert wrong.status_code == 401
        # Nor does the token of another sandbox.
        assert gateway.get("/files?path=/etc/passwd", {"Host": name, "X-Access-Token": "0" * 64}).text != "hello"
    finally:
        ours.http.put(f"/soulbox/v1/sandboxes/{app.sandbox_id}/domains", json={"domains": []})


def test_a_name_shadows_no_port_and_contradicts_no_header(gateway, ours, app, sandbox, name):
    assert ours.put(sandbox.sandbox_id, name, port=9).status_code == 204
    assert gateway.get("/", gateway.host(app)).text == "hello"
    assert gateway.get("/", {"Host": name, **gateway.headers(app)}).text == "hello"
    assert gateway.get("/", {"Host": name}).status_code == 502
