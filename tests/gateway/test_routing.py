"""Which sandbox and port a request is for, and what it gets when there is none."""

import time
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from conftest import PORT, create, serve

BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/130.0 Safari/537.36"
UNKNOWN = "i" + "0" * 20


def test_by_host_name(gateway, app):
    assert gateway.get("/", {"Host": f"{PORT}-{app.sandbox_id}.{gateway.domain}"}).text == "hello"


def test_by_headers(gateway, app):
    assert gateway.get("/", gateway.headers(app)).text == "hello"


def test_the_domain_itself_is_not_compared(gateway, app):
    assert gateway.get("/", {"Host": f"{PORT}-{app.sandbox_id}.any.other.name"}).text == "hello"


def test_old_clients_glue_the_client_id_on(gateway, app):
    assert gateway.get("/", {"Host": f"{PORT}-{app.sandbox_id}-6532622b.{gateway.domain}"}).text == "hello"


def test_without_a_sandbox_it_is_the_api(gateway):
    assert gateway.get("/health", {}).status_code in (200, 204)
    assert gateway.get("/sandboxes", {}).status_code == 401


@pytest.mark.parametrize("missing", ["E2b-Sandbox-Id", "E2b-Sandbox-Port"])
def test_half_a_pair_of_headers(gateway, app, missing):
    headers = gateway.headers(app)
    del headers[missing]
    assert gateway.get("/", headers).status_code == 400


@pytest.mark.parametrize("port", ["0", "65536", "-1", "80a", "", "8080,8080"])
def test_a_port_that_is_none(gateway, app, port):
    headers = {**gateway.headers(app), "E2b-Sandbox-Port": port}
    assert gateway.get("/", headers).status_code == 400


@pytest.mark.parametrize("sandbox_id", ["../x", "UPPER", "a b", "x" * 300])
def test_an_id_that_is_none(gateway, sandbox_id):
    answer = gateway.get("/", {"E2b-Sandbox-Id": sandbox_id, "E2b-Sandbox-Port": "80"})
    assert answer.status_code in (400, 502)


def test_conflicting_headers_are_refused(gateway, app):
    first, second = app.sandbox_id, UNKNOWN
    pairs = [("E2b-Sandbox-Id", first), ("E2b-Sandbox-Id", second), ("E2b-Sandbox-Port", str(PORT))]
    assert httpx.get(gateway.url, headers=pairs).status_code == 400
    pairs = [("E2b-Sandbox-Id", first), ("E2b-Sandbox-Port", "80"), ("E2b-Sandbox-Port", str(PORT))]
    assert httpx.get(gateway.url, headers=pairs).status_code == 400


def test_headers_that_contradict_the_host_are_refused(gateway, app, sandbox):
    headers = {**gateway.host(app), **gateway.headers(sandbox)}
    assert gateway.get("/", headers).status_code == 400
    agreeing = {**gateway.host(app), **gateway.headers(app)}
    assert gateway.get("/", agreeing).text == "hello"


def test_unknown_sandbox(gateway):
    answer = gateway.get("/", {"Host": f"80-{UNKNOWN}.{gateway.domain}"})
    assert answer.status_code == 502
    assert answer.headers["content-type"].startswith("application/json")
    ours = {"code": "SB-NOT-FOUND", "retryable": False}
    assert answer.json() == {"sandboxId": UNKNOWN, "message": "The sandbox was not found", "code": 502, "soulbox": ours}


def test_closed_port(gateway, app):
    answer = gateway.get("/", gateway.host(app, 9))
    assert answer.status_code == 502
    expected = {"sandboxId": app.sandbox_id, "message": "The sandbox is running but port is not open", "port": 9, "code": 502}
    expected["soulbox"] = {"code": "SB-NOT-FOUND", "retryable": False}
    assert answer.json() == expected


@pytest.mark.parametrize(
    ("headers", "page"),
    [
        ({"User-Agent": BROWSER, "Accept": "text/html"}, True),
        ({"User-Agent": BROWSER, "Accept": "application/json"}, False),
        ({"User-Agent": BROWSER, "Sec-Fetch-Mode": "cors", "Accept": "text/html"}, False),
        ({"User-Agent": BROWSER, "X-Requested-With": "XMLHttpRequest"}, False),
        ({"User-Agent": "curl/8", "Sec-Fetch-Mode": "navigate"}, True),
        ({"User-Agent": "curl/8"}, False),
    ],
)
def test_a_page_for_people_and_json_for_programs(gateway, app, headers, page):
    for target in (gateway.host(app, 9), {"Host": f"80-{UNKNOWN}.{gateway.domain}"}):
        answer = gateway.get("/", {**target, **headers})
        assert answer.status_code == 502
        assert answer.headers["content-type"].startswith("text/html" if page else "application/json")
        name = target["Host"].split(".")[0].split("-")[1]
        assert name in answer.text


def test_a_page_does_not_repeat_what_the_client_sent_unescaped(gateway):
    headers = {"Host": f"80-{UNKNOWN}.<script>alert(1)</script>", "User-Agent": BROWSER, "Accept": "text/html"}
    assert "<script>alert" not in gateway.get("/<script>alert(2)</script>", headers).text


@pytest.mark.parametrize("path", ["/init", "/freeze", "/unfreeze", "/fsfreeze", "/fsthaw", "/collapse", "/upgrade", "/init/", "/%69nit", "//init", "/soulbox/logs"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_only_the_server_may_call(gateway, app, path, method):
    token = app._envd_access_token
    for headers in (gateway.host(app, 49983), gateway.headers(app, 49983)):
        answer = httpx.request(method, gateway.url + path, headers={**headers, "X-Access-Token": token}, json={})
        assert answer.status_code in (401, 404), (path, answer.status_code)
        if path in ("/init", "/freeze", "/upgrade"):
            assert answer.status_code == 404 and answer.json()["path"] == path


def test_reserved_paths_are_free_on_other_ports(gateway, app):
    assert gateway.get("/init", gateway.host(app)).status_code == 200


def test_the_agents_port_needs_its_token(gateway, app):
    for token in (None, "", "wrong"):
        headers = {**gateway.headers(app, 49983), **({} if token is None else {"X-Access-Token": token})}
        answer = httpx.post(gateway.url + "/process.Process/List", headers=headers, json={})
        assert answer.status_code == 401
        assert answer.json()["code"] == 401
        assert gateway.get("/envs", headers).status_code == 401
        assert gateway.get("/metrics", headers).status_code == 401
    assert gateway.get("/health", gateway.headers(app, 49983)).status_code == 204


def test_the_token_of_one_sandbox_is_none_of_another(gateway, app, sandbox):
    app.files.write("mine", "x")
    sandbox.files.write("mine", "y")
    query = urlsplit(sandbox.download_url("mine")).query
    assert parse_qs(query)["signature"]
    assert gateway.get(f"/files?{query}", gateway.headers(sandbox, 49983)).text == "y"
    assert gateway.get(f"/files?{query}", gateway.headers(app, 49983)).status_code == 401


def test_a_server_on_loopback_only(gateway):
    sandbox = serve(gateway, create(), bind="127.0.0.1")
    try:
        assert gateway.get("/", gateway.host(sandbox)).text == "hello"
    finally:
        sandbox.kill()


def test_a_killed_sandbox_is_gone_at_once(gateway):
    sandbox = serve(gateway, create())
    sandbox.kill()
    answer = gateway.get("/", gateway.host(sandbox))
    assert answer.status_code == 502 and answer.json()["message"] == "The sandbox was not found"


def test_a_server_that_is_just_starting(gateway, sandbox):
    """The dial is repeated for a moment: programs start slower than people click."""
    sandbox.files.write("/home/user/late.py", "import time\nfrom http.server import SimpleHTTPRequestHandler, test\nopen('soon', 'w').close()\ntime.sleep(0.3)\ntest(SimpleHTTPRequestHandler, port=7000)")
    sandbox.commands.run("exec python3 late.py", background=True, timeout=0)
    deadline = time.monotonic() + 20
    while not sandbox.files.exists("/home/user/soon"):
        assert time.monotonic() < deadline
    assert gateway.get("/", gateway.host(sandbox, 7000)).status_code == 200
