"""A page in headless Chromium: what it says, what is left of it, and what it cannot do."""

import struct
import time
import zlib

import pytest
from conftest import needs_base

pytestmark = needs_base

SIZE = (320, 200)
PAGE = """<!doctype html><title>t</title>
<body style="margin: 0; background: linear-gradient(red, blue); height: 100vh"><p id=p>before</p>
<script type=module>
  console.log('said', { a: [1, 'x'] }, 2 ** 40); console.error('complained')
  setTimeout(() => { document.querySelector('#p').textContent = 'after' }, 300)
</script>"""


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "page.html"
    path.write_text(PAGE)
    return path


def run(soulbox, script, *flags, **more):
    # The first use makes the template.
    return soulbox.json("exec", "-r", "browser", *flags, "-e", script, timeout=170, **more)


def pixels(png):
    """Width, height and the set of bytes that its rows have, unfiltered: enough to tell a picture from a blank."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = [], 8
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        data = png[at + 8 : at + 8 + length]
        assert struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + data)
        chunks.append((kind, data))
        at += 12 + length
    assert [kind for kind, _ in chunks][:: len(chunks) - 1] == [b"IHDR", b"IEND"]
    width, height = struct.unpack(">II", chunks[0][1][:8])
    rows = zlib.decompress(b"".join(data for kind, data in chunks if kind == b"IDAT"))
    assert len(rows) % height == 0
    return width, height, set(rows)


def test_a_pages_console_dom_and_picture_come_out(soulbox, page, tmp_path):
    picture = tmp_path / "page.png"
    size = "x".join(map(str, SIZE))
    flags = ["--dom", "--screenshot", picture, "--size", size, "--until", "document.querySelector('#p').textContent == 'after'"]
    result = soulbox.json("exec", "-r", "browser", *flags, page, timeout=170)
    assert (result["exit_code"], result["status"]) == (0, "exited")
    assert result["stdout"] == "said {a: Array(2)} 1099511627776\n" and result["stderr"] == "complained\n"
    assert result["dom"].startswith("<!DOCTYPE html><html>") and '<p id="p">after</p>' in result["dom"]
    assert not result["dom_truncated"]
    width, height, seen = pixels(picture.read_bytes())
    assert (width, height) == SIZE and len(seen) > 20, "a gradient has many colours"
    assert [path.name for path in tmp_path.iterdir() if path != page] == ["page.png"]
    # Without --json: what it says as it says it, and the DOM behind, of a page whose text stays for as long.
    page.write_text(PAGE.replace("300)", "300_000)"))
    done = soulbox("exec", "-r", "browser", "--dom", page)
    assert done.stdout.startswith("said") and '<p id="p">before</p>' in done.stdout and done.stderr == "complained\n"


def test_a_script_runs_as_a_module_in_an_empty_page(soulbox):
    code = "console.log(typeof document, isSecureContext, typeof process); document.body.textContent = await Promise.resolve('done')"
    result = run(soulbox, code, "--dom")
    assert result["stdout"] == "object true undefined\n" and ">done</body>" in result["dom"]


@pytest.mark.parametrize(
    "code",
    ["throw new Error('boom')", "Promise.reject(new Error('boom'))", "await 1; null.boom", "boom syntax", "setTimeout(() => { throw 'boom' })"],
)
def test_an_exception_is_told_and_makes_it_fail(soulbox, code):
    result = run(soulbox, f"console.log('first'); {code}", code=1)
    assert "Uncaught" in result["stderr"] and result["diagnosis"]["kind"] == "uncaught-exception"
    assert result["stdout"] == ("" if "syntax" in code else "first\n")


def test_an_exception_that_is_caught_is_none(soulbox):
    code = "const p = Promise.reject(1); setTimeout(() => p.catch(() => {}), 20); try { null.x } catch {}"
    assert run(soulbox, code)["exit_code"] == 0


def test_a_page_without_end_is_ended(soulbox):
    began = time.monotonic()
    result = run(soulbox, "console.log('on'); while (true);", "--timeout", "8s", code=124)
    assert result["status"] == "timeout" and result["stdout"] == "on\n" and time.monotonic() - began < 40
    before = soulbox("sandbox", "list", "-q").stdout
    assert run(soulbox, "alert('seen'); console.log(confirm('sure'))")["stdout"] == "seen\nsure\ntrue\n"
    assert soulbox("sandbox", "list", "-q").stdout == before


def test_memory_runs_out_inside_alone(soulbox, sandbox_of):
    beside = sandbox_of("base")
    result = run(soulbox, "const all = []; for (;;) all.push(new Uint8Array(1 << 25).fill(1))", code=None)
    assert result["exit_code"] == 137 and result["diagnosis"]["kind"] in ("out-of-memory", "page-crashed")
    assert result["peak_memory_bytes"] is None or result["peak_memory_bytes"] <= 1 << 30
    assert beside("echo", "alive") == "alive\n"


def test_a_page_reaches_nothing_unless_it_is_let(soulbox):
    # An address of the documentation range: nobody answers it anywhere.
    code = "try { await fetch('http://192.0.2.1/') } catch (e) { console.log(e.message) }"
    began = time.monotonic()
    result = run(soulbox, code)
    assert result["stdout"] == "Failed to fetch\n" and time.monotonic() - began < 20
    assert "net::ERR_" in result["stderr"]
    names = run(soulbox, code.replace("192.0.2.1", "example.invalid"))
    assert names["stdout"] == "Failed to fetch\n"


def test_a_page_sees_no_files_but_its_own(soulbox):
    code = """
        for (const path of ['/../../etc/passwd', '/%2e%2e/%2e%2e/etc/passwd', '/..%2f..%2fetc/passwd'])
            console.log((await fetch(path)).status)
        try { await fetch('file:///etc/passwd') } catch { console.log('none') }
    """
    assert run(soulbox, code)["stdout"] == "404\n404\n404\nnone\n"


def test_a_page_may_ask_for_what_is_no_path(soulbox):
    code = "for (const path of ['/100%.png', '/%E0%A4%A', '/%00', '/none']) console.log((await fetch(path)).status)"
    assert run(soulbox, code)["stdout"] == "400\n400\n400\n404\n"


def test_what_makes_no_sense_is_refused(soulbox, tmp_path):
    for flags in (["--size", "0x10"], ["--size", "9000x10"], ["--size", "big"], ["--allow-read"]):
        soulbox("exec", "-r", "browser", *flags, "-e", "1", code=2)
    soulbox("exec", "-r", "python", "--dom", "-e", "1", code=2)
    assert "--runtime" in soulbox("exec", "--dom", "--", "true", code=2).stderr
    assert run(soulbox, "1", "--until", "(", code=2)["stderr"].startswith("soulbox: --until")
    soulbox("exec", "-r", "browser", "--screenshot", tmp_path / "no/where.png", "-e", "1", code=3)


TRUSTED = """
openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=authority -keyout ca.key -out ca.pem
openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key.pem -out request.pem
printf subjectAltName=DNS:localhost > names
openssl x509 -req -days 1 -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names -out cert.pem
echo '<script>console.log("sealed")</script>' > index.html
python3 - 2>/dev/null <<'SERVER' &
import http.server, ssl
server = http.server.HTTPServer(("127.0.0.1", 8443), http.server.SimpleHTTPRequestHandler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("cert.pem", "key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
SERVER
until curl -sk -o /dev/null https://localhost:8443/; do sleep 0.1; done
rm -f /etc/ssl/added-ca.pem
soulbox-page https://localhost:8443/ || true
cat ca.pem >> /etc/ssl/added-ca.pem
soulbox-page https://localhost:8443/
ls -A ~ /tmp
kill $!
"""


def test_a_page_trusts_whom_its_sandbox_was_told_to_trust(soulbox, sandbox_of):
    run(soulbox, "1")
    inside = sandbox_of("browser")
    said = inside("sudo", "sh", "-ec", f"mkdir /srv/site && cd /srv/site; exec 2>&1; {TRUSTED}")
    _, refused, served = said.partition("net::ERR_CERT_AUTHORITY_INVALID\n")
    assert refused and served.startswith("sealed\n"), said
    assert ".pki" not in served and "soulbox-page" not in served, "it leaves nothing behind"
