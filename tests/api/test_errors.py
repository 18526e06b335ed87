"""What is wrong is refused with a typed error, and leaves nothing behind."""

import json

import pytest

from conftest import UNKNOWN, is_error


@pytest.mark.parametrize("key", [None, "", "e2b_" + "0" * 40, "e2b_xyz", "no-prefix", "e2b_" + "0" * 10_000, "ü"])
@pytest.mark.parametrize("path", ["/sandboxes", "/v2/sandboxes", f"/sandboxes/{UNKNOWN}"])
def test_authentication(api, key, path):
    headers = {} if key is None else {"X-API-Key": key.encode()}
    is_error(api("GET", path, key=False, headers=headers), 401)


def test_a_foreign_bearer_next_to_a_good_key_is_ignored(api):
    assert api("GET", "/sandboxes", headers={"Authorization": "Bearer sk_e2b_0000"}).status_code == 200


@pytest.mark.parametrize("path", ["/sandboxes", "/v2/sandboxes"])
@pytest.mark.parametrize(
    "change",
    [
        {"timeout": 0},
        {"timeout": -5},
        {"timeout": 10**6},
        {"timeout": 10**30},
        {"timeout": "long"},
        {"timeout": 1.5},
        {"templateID": 7},
        {"templateID": ""},
        {"templateID": "Bad Name!"},
        {"metadata": "text"},
        {"metadata": {"a": 1}},
        {"metadata": ["a"]},
        {"envVars": {"A": ["x"]}},
        {"envVars": {"A=B": "x"}},
        {"envVars": {"A": "nul\0"}},
        {"envVars": {"": "x"}},
    ],
)
def test_a_refused_create_makes_nothing(api, path, change):
    before = api.count()
    is_error(api.create(path, **change), 400)
    assert api.count() == before


def test_unknown_template(api):
    before = api.count()
    assert "nowhere" in is_error(api.create(templateID="nowhere"), 404)["message"]
    assert "sometag" in is_error(api.create(templateID=f"{api.template}:sometag"), 404)["message"]
    assert api.count() == before


@pytest.mark.parametrize("body", [b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe", b'{"templateID":"base"', b"[" * 100_000])
def test_bodies_that_are_no_object(api, body):
    is_error(api("POST", "/v2/sandboxes", content=body, headers={"Content-Type": "application/json"}), 400)


def test_a_missing_template_is_named(api):
    assert "templateID" in is_error(api("POST", "/sandboxes", json={"timeout": 10}), 400)["message"]


def test_unknown_fields_are_ignored(api):
    assert api.create(somethingNew={"deep": [1]}, autoPause=False).status_code == 201


def test_a_body_without_end_is_cut(api):
    before = api.count()
    huge = json.dumps({"templateID": api.template, "metadata": {"a": "x" * (17 << 20)}}).encode()
    answer = api("POST", "/v2/sandboxes", content=huge, headers={"Content-Type": "application/json"})
    is_error(answer, 413)
    assert api.count() == before


def test_large_metadata_and_environment_within_bounds(api):
    answer = api.create(metadata={"a": "x" * 2000}, envVars={f"V{n}": "y" * 100 for n in range(100)})
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("path", ["/", "/nowhere", "/sandboxes/a/b/c/d", "/v3/sandboxes", "/%00", "/sandboxes//"])
def test_unknown_routes(api, path):
    answer = api("GET", path)
    assert answer.status_code in (400, 404)
    is_error(answer, answer.status_code)


def test_wrong_methods(api):
    answer = api("PATCH", "/sandboxes")
    assert answer.status_code in (404, 405)
    is_error(answer, answer.status_code)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/sandboxes/{}/pause"),
        ("POST", "/sandboxes/{}/fork"),
        ("POST", "/sandboxes/{}/snapshots"),
        ("GET", "/snapshots"),
        ("POST", "/volumes"),
        ("GET", "/volumes"),
        ("POST", "/v3/templates"),
    ],
)
def test_what_later_versions_bring_says_so(api, sandbox, method, path):
    answer = api(method, path.format(sandbox["sandboxID"]), **({"json": {}} if method != "GET" else {}))
    body = is_error(answer, 501)
    assert "not implemented" in body["message"]
    assert api("GET", f"/sandboxes/{sandbox['sandboxID']}").status_code == 200


def test_health_and_readiness_need_no_key(api):
    assert api("GET", "/health", key=False).status_code in (200, 204)
    assert api("GET", "/ready", key=False).status_code in (200, 204)


def test_openapi_describes_the_routes(api):
    document = api("GET", "/soulbox/v1/openapi.json", key=False).json()
    assert document["openapi"].startswith("3.")
    for path, method in [
        ("/sandboxes", "post"),
        ("/v2/sandboxes", "get"),
        ("/v2/sandboxes", "post"),
        ("/sandboxes/{sandboxID}", "delete"),
        ("/sandboxes/{sandboxID}/metrics", "get"),
    ]:
        assert method in document["paths"][path], (path, method)


def test_browsers_may_call(api):
    preflight = api(
        "OPTIONS",
        "/v2/sandboxes",
        key=False,
        headers={
            "Origin": "https://app.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "x-api-key,content-type,idempotency-key",
        },
    )
    assert preflight.status_code in (200, 204)
    assert preflight.headers["access-control-allow-origin"] in ("*", "https://app.example")
    answer = api("GET", "/v2/sandboxes", headers={"Origin": "https://app.example"})
    assert "x-next-token" in answer.headers["access-control-expose-headers"].lower()


def test_errors_do_not_show_the_inside(api):
    for answer in (api.create(templateID="nowhere"), api("GET", f"/sandboxes/{UNKNOWN}"), api("GET", "/sandboxes", key=False)):
        for word in ("sqlx", "panicked", "/crates/", ".rs:", "RUST_BACKTRACE", "/var/lib"):
            assert word not in answer.text


def test_rubbish_on_the_wire_does_not_stop_the_server(api):
    for data in (b"\x16\x03\x01" + b"\x00" * 500, b"GET\r\n\r\n", b"\x00" * 1000, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100, b"GET / HTTP/9.9\r\n\r\n"):
        with api.dial() as client:
            client.sendall(data)
            client.settimeout(2)
            try:
                client.recv(1000)
            except OSError:
                pass
    assert api("GET", "/health").status_code in (200, 204)


@pytest.mark.parametrize(
    "body, field",
    [
        ({"allows": ["GET b.com/*"]}, "`allows`"),
        ({"per_minute": {"a.com": 5}}, "`per_minute`"),
    ],
)
def test_a_mistyped_rule_changes_no_rule(api, sandbox, body, field):
    path = f"/soulbox/v1/sandboxes/{sandbox['sandboxID']}/requests"
    assert api("PUT", path, json={"allow": ["GET a.com/*"]}).status_code == 204
    assert field in is_error(api("PUT", path, json=body), 400)["message"]
    assert api("GET", path).json()["allow"] == ["GET a.com/*"]


def test_a_mistyped_binding_or_time_makes_nothing(api, sandbox, tag):
    secret = f"/soulbox/v1/secrets/{tag}"
    assert "`host`" in is_error(api("PUT", secret, json={"value": "x", "host": ["a.com"]}), 400)["message"]
    is_error(api("GET", secret), 404)
    path = f"/soulbox/v1/sandboxes/{sandbox['sandboxID']}/passes"
    assert "`expiresIn`" in is_error(api("POST", path, json={"port": 3000, "expiresIn": 2}), 400)["message"]


@pytest.mark.parametrize(
    "change, field",
    [
        ({"allowInternetAccess": False}, "allowInternetAccess"),
        ({"network": {"allowInternetAccess": False}}, "network.allowInternetAccess"),
        ({"network": {"allow_public_traffic": False}}, "network.allow_public_traffic"),
        ({"network": {"rules": {"a.com": [{"body": "x"}]}}}, "network.rules.body"),
        ({"network": {"egressProxy": {"address": "p.example.com:1080", "foo": 1}}}, "network.egressProxy.foo"),
        ({"network": {"egressProxy": {"address": "127.0.0.1:1080"}}}, "network.egressProxy.address"),
        ({"network": {"egressProxy": {"address": "[::1]:1080"}}}, "network.egressProxy.address"),
        ({"network": {"rules": {f"d{n}.com": [] for n in range(11)}}}, "network.rules"),
        ({"iam": {"tokens": {"a": {"audience": "b", "tokenType": "JWT-SVID"}}}}, "iam"),
    ],
)
def test_what_would_stay_open_is_not_made(api, change, field):
    before = api.count()
    assert field in is_error(api.create(secure=True, **change), 400)["message"]
    assert api.count() == before


@pytest.mark.parametrize(
    "body",
    [
        {"allowInternetAccess": False},
        {"allowPublicTraffic": False},
        {"wireguard": {}},
        {"egressProxy": {"address": "10.0.0.1:1080"}},
    ],
)
def test_an_update_that_cannot_close_is_refused(api, sandbox, body):
    path = f"/sandboxes/{sandbox['sandboxID']}/network"
    assert list(body)[0] in is_error(api("PUT", path, json=body), 400)["message"]


def test_the_network_is_told_as_it_was_put(api):
    network = {
        "allowOut": ["8.8.8.8/24"],
        "rules": {"A.example.com": [{"transform": {"headers": {"X-Test": "1"}}}], "b.example.com": []},
    }
    made = api.create(secure=True, network=network).json()
    told = api("GET", f"/sandboxes/{made['sandboxID']}").json()["network"]
    assert {key: told[key] for key in network} == network
