"""Reach a server inside a sandbox by the host name that the package hands out."""

import httpx
import pytest

from flavours import eventually


async def fetch(server, host, path="/", **options):
    async with httpx.AsyncClient(timeout=15) as client:
        return await client.get(server.url + path, headers={"Host": host, **options.pop("headers", {})}, **options)


async def serve(sandbox, port, bind):
    return await sandbox.commands.run(
        f"cd www && exec python3 -m http.server {port} --bind {bind}", background=True, timeout=0
    )


async def answering(server, host):
    async def ready():
        return (await fetch(server, host)).status_code == 200

    await eventually(ready, within=15)


@pytest.mark.parametrize("bind", ["127.0.0.1", "0.0.0.0"])
async def test_a_web_server_inside(sandbox, server, bind):
    await sandbox.files.write("www/index.html", "<h1>from inside</h1>")
    await serve(sandbox, 8000, bind)
    host = sandbox.get_host(8000)
    assert host.startswith(f"8000-{sandbox.sandbox_id}.") and host.endswith(server.domain)
    await answering(server, host)
    answer = await fetch(server, host, "/index.html")
    assert answer.text == "<h1>from inside</h1>"
    assert answer.headers["content-type"] == "text/html"
    assert (await fetch(server, host, "/missing")).status_code == 404


async def test_two_sandboxes_on_the_same_port(sdk, server):
    first, second = await sdk.create(), await sdk.create()
    for sandbox, word in [(first, "first"), (second, "second")]:
        await sandbox.files.write("www/index.html", word)
        await serve(sandbox, 3000, "0.0.0.0")
        await answering(server, sandbox.get_host(3000))
    for _ in range(5):
        assert (await fetch(server, first.get_host(3000), "/index.html")).text == "first"
        assert (await fetch(server, second.get_host(3000), "/index.html")).text == "second"


async def test_a_closed_port_says_so(sandbox, server):
    answer = await fetch(server, sandbox.get_host(9999))
    assert answer.status_code == 502
    assert answer.json() == {
        "sandboxId": sandbox.sandbox_id,
        "message": "The sandbox is running but port is not open",
        "port": 9999,
        "code": 502,
        "soulbox": {"code": "SB-NOT-FOUND", "retryable": False},
    }


async def test_a_killed_sandbox_is_not_found(sandbox, server):
    await sandbox.files.write("www/index.html", "soon gone")
    await serve(sandbox, 8000, "0.0.0.0")
    await answering(server, sandbox.get_host(8000))
    await sandbox.kill()
    answer = await fetch(server, sandbox.get_host(8000))
    assert answer.status_code == 502
    assert answer.json()["message"] == "The sandbox was not found"
    assert answer.json()["sandboxId"] == sandbox.sandbox_id
