"""Secrets over plain HTTP: answers never hold a value, and refusals leave nothing behind."""

import pytest

from conftest import is_error

VALUE = "s3cr3t-v4lu3-of-the-api-suite"


@pytest.fixture
def name(api, tag):
    name = f"api-{tag[:12]}"
    yield name
    api("DELETE", f"/secrets/{name}")


def silent(answer):
    assert VALUE not in answer.text and answer.headers["cache-control"] == "no-store"
    return answer


def test_every_answer_keeps_the_value(api, name):
    made = silent(api("POST", "/secrets", json={"name": name, "value": VALUE}))
    assert made.status_code == 201
    assert set(made.json()) == {"secretID", "name", "currentVersion", "metadata", "createdAt", "updatedAt"}
    for answer in (
        api("GET", f"/secrets/{name}"),
        api("GET", "/secrets"),
        api("GET", f"/soulbox/v1/secrets/{name}"),
        api("GET", "/soulbox/v1/secrets"),
        api("POST", f"/secrets/{name}", json={"value": VALUE}),
        api("PUT", f"/soulbox/v1/secrets/{name}", json={"value": VALUE, "hosts": ["a.example.com"]}),
    ):
        assert silent(answer).status_code == 200
    is_error(silent(api("POST", "/secrets", json={"name": name, "value": VALUE})), 409)
    assert silent(api("DELETE", f"/secrets/{name}")).status_code == 204
    is_error(silent(api("GET", f"/secrets/{name}")), 404)


@pytest.mark.parametrize(
    "field, change",
    [
        ("name", {"name": "a b"}),
        ("name", {"name": "sec_abc"}),
        ("value", {"value": VALUE * 3000}),
        ("value", {"value": [VALUE]}),
        ("value", {"value": 12345678}),
        ("metadata", {"metadata": {"k": "v" * 1025}}),
    ],
)
def test_what_is_wrong_is_named(api, name, field, change):
    body = is_error(silent(api("POST", "/secrets", json={"name": name, "value": VALUE, **change})), 400)
    assert field in body["message"] and "12345678" not in body["message"]
    is_error(api("GET", f"/secrets/{name}"), 404)


def test_nothing_is_half_applied(api, name):
    api("PUT", f"/soulbox/v1/secrets/{name}", json={"value": VALUE, "hosts": ["a.example.com"]})
    before = api("GET", f"/soulbox/v1/secrets/{name}").json()
    for bad in ({"value": "new", "hosts": ["a b"]}, {"value": "", "hosts": []}, {"hosts": [], "metadata": {"k": "v" * 1025}}):
        is_error(api("PUT", f"/soulbox/v1/secrets/{name}", json=bad), 400)
    assert api("GET", f"/soulbox/v1/secrets/{name}").json() == before


def test_rules_name_secrets_that_are_there(api, name):
    rules = {"rules": {"a.example.com": [{"transform": {"headers": {"x-key": f"${{e2b.secrets.{name}}}"}}}]}}
    before = api.count()
    is_error(api.create(network=rules), 400)
    assert api.count() == before
    api("POST", "/secrets", json={"name": name, "value": VALUE})
    made = api.create(network=rules)
    assert made.status_code == 201
    shown = api("GET", f"/sandboxes/{made.json()['sandboxID']}").text
    assert name in shown and VALUE not in shown
    assert api("PUT", f"/sandboxes/{made.json()['sandboxID']}/network", json=rules).status_code == 204


def test_without_a_key_nothing_is_told(api, name):
    for method, path in [("GET", "/secrets"), ("POST", "/secrets"), ("GET", f"/secrets/{name}"), ("DELETE", f"/secrets/{name}"), ("PUT", f"/soulbox/v1/secrets/{name}")]:
        is_error(api(method, path, key=False), 401)


def test_pages_go_on_by_tokens_that_were_given_out_alone(api, name):
    for part in "abc":
        assert api("POST", "/secrets", json={"name": f"{name}-{part}", "value": VALUE}).status_code == 201
    found, token = [], ""
    while token is not None:
        page = api("GET", f"/secrets?limit=1&nextToken={token}")
        found += [secret["name"] for secret in page.json()]
        token = page.headers.get("x-next-token")
    assert [each for each in found if each.startswith(name)] == [f"{name}-{part}" for part in "abc"]
    for wrong in ("zzz", f"{name}-a"):
        assert "nextToken" in is_error(api("GET", f"/secrets?limit=2&nextToken={wrong}"), 400)["message"]
    for part in "abc":
        api("DELETE", f"/secrets/{name}-{part}")
