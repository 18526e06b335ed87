"""A machine and an internet of a test's own.

The test process leaves the machine's network for a namespace with nothing but a cable, and starts what stands at the
other end (`services.py`): every address there is, public or not, answers from that one process. No packet of these
tests can reach anything else, and all of it goes with the test process.
"""

import ctypes
import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
CLONE_NEWNET = 0x40000000
# Both ends of the cable: the machine that hosts sandboxes, and the world.
MACHINE, WORLD = "45.83.0.1", "45.83.0.2"
# Another address of the machine, in the same network.
MACHINE_TOO = "45.83.0.3"
MACHINE6, WORLD6 = "2a0e:4::1", "2a0e:4::2"
# Public-looking addresses of the world.
SITE, OTHER = "93.184.216.34", "93.184.216.35"
WEB_SOCKET, HTTP2 = "93.184.216.36", "93.184.216.37"
SITE6, OTHER6 = "2606:2800:220:1::34", "2606:2800:220:1::35"


def leave_the_machine():
    """Takes this process, which must have one thread yet, out of the machine's network."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "no network namespace could be made")
    ip("link", "set", "lo", "up")


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class World:
    """What is at the other end of the cable, and what it saw."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.files = self.directory / "www"
        self.files.mkdir(parents=True)
        self.log = self.directory / "log"
        self.log.touch()
        self.zone = {}
        self.set_names()
        self.authority = Authority(self.directory / "ca")
        self.process = subprocess.Popen(
            [sys.executable, HERE / "services.py", str(self.directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        # It has left for its own namespace when it says so.
        assert self.process.stdout.readline() == "away\n"
        ip("link", "add", "cable", "type", "veth", "peer", "name", "world", "netns", str(self.process.pid))
        ip("addr", "add", f"{MACHINE}/24", "dev", "cable")
        ip("addr", "add", f"{MACHINE_TOO}/24", "dev", "cable")
        ip("addr", "add", f"{MACHINE6}/64", "dev", "cable", "nodad")
        ip("link", "set", "cable", "up")
        ip("route", "add", "default", "via", WORLD)
        self.process.stdin.write("plugged in\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "ready\n"
        ip("-6", "route", "add", "default", "via", WORLD6)

    def set_names(self, **more):
        """The whole zone: name → addresses, or `{"TXT": [...]}`. Underscores are dots."""
        zone = {
            "www.example.com": [SITE],
            "api.example.com": [SITE],
            "deep.api.example.com": [SITE],
            "example.com": [SITE],
            "other.org": [OTHER],
            "www.other.org": [OTHER],
            "ws.example.com": [WEB_SOCKET],
            "h2.example.com": [HTTP2],
            "six.example.com": [SITE6],
            "both.example.com": [SITE, SITE6],
        }
        zone.update({name.replace("_", "."): value for name, value in more.items()})
        draft = self.directory / "zone.draft"
        draft.write_text(json.dumps(zone))
        draft.rename(self.directory / "zone")

    def seen(self, since=0, **like):
        """Events after the mark `since` that have these values; ends of connections, which may be those of earlier
        tests, for who asks for them."""
        lines = self.log.read_bytes()[since:].decode().splitlines()
        events = [json.loads(line) for line in lines]
        if like.get("what") != "closed":
            events = [event for event in events if event["what"] != "closed"]
        return [event for event in events if all(event.get(key) == value for key, value in like.items())]

    def mark(self):
        """Now, for `seen`; a moment late, so that packets under way are before it."""
        time.sleep(0.1)
        return self.log.stat().st_size

    def end(self):
        self.process.kill()
        self.process.wait()


class Authority:
    """A certificate authority and one certificate for all sites of the world."""

    def __init__(self, directory):
        directory.mkdir()
        self.certificate, self.chain, self.key = (directory / name for name in ("ca.pem", "site.pem", "site.key"))
        self.openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=World Root",
            "-keyout", directory / "ca.key", "-out", self.certificate, "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=site", "-keyout", self.key, "-out", directory / "csr")
        extensions = directory / "extensions"
        names = "example.com,*.example.com,*.api.example.com,other.org,*.other.org".split(",")
        addresses = [SITE, OTHER, SITE6]
        extensions.write_text("subjectAltName=" + ",".join([f"DNS:{n}" for n in names] + [f"IP:{a}" for a in addresses]) + "\nextendedKeyUsage=serverAuth\n")
        self.openssl(
            "x509", "-req", "-in", directory / "csr", "-CA", self.certificate, "-CAkey", directory / "ca.key", "-CAcreateserial",
            "-days", "2", "-out", self.chain, "-extfile", extensions,
        )  # fmt: skip

    @staticmethod
    def openssl(*arguments):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, text=True)
