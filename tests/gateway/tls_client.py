"""A user's program that knows a domain, a key and an authority: no URL. Run by test_tls.py."""

import ssl
import sys
import time
import urllib.request
from urllib.error import HTTPError

import e2b

sandbox = e2b.Sandbox.create(template=sys.argv[1], timeout=120)
assert sandbox.commands.run("echo over tls").stdout == "over tls\n"
sandbox.files.write("a.bin", b"\x00\x01" * 2_000_000)
assert bytes(sandbox.files.read("a.bin", format="bytes")) == b"\x00\x01" * 2_000_000
chunks = []


def seen(chunk):
    chunks.append(chunk)
    sandbox.files.write(f"seen{chunk.strip()}", "")


sandbox.commands.run("for i in 1 2 3; do echo $i; until [ -e seen$i ]; do sleep 0.02; done; done", on_stdout=seen)
assert chunks == ["1\n", "2\n", "3\n"], chunks

trust = ssl.create_default_context()
link = sandbox.download_url("a.bin")
assert link.startswith("https://49983-" + sandbox.sandbox_id)
assert len(urllib.request.urlopen(link, context=trust).read()) == 4_000_000

sandbox.files.write("www/index.html", "served over tls")
sandbox.commands.run("cd www && exec python3 -m http.server 8000", background=True, timeout=0)
url = f"https://{sandbox.get_host(8000)}/"
deadline = time.monotonic() + 15
while True:
    try:
        assert urllib.request.urlopen(url, context=trust).read() == b"served over tls"
        break
    except HTTPError as error:
        assert error.code == 502 and time.monotonic() < deadline
        time.sleep(0.1)
assert sandbox.kill()
print("done")
