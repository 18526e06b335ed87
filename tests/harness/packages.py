"""What lets sandboxes reach the registries that this machine's own package managers use."""

import ipaddress
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

CERTIFICATES = Path("/usr/local/share/ca-certificates")
PIP = """
from urllib.parse import urlsplit
from pip._internal.configuration import Configuration
from pip._internal.models.index import PyPI

settings = Configuration(isolated=False)
settings.load()
index = dict(settings.items()).get("global.index-url") or PyPI.url
print(urlsplit(index).hostname, PyPI.netloc, PyPI.file_storage_domain)
"""


def server_arguments(python):
    """Flags of `soulbox serve`: the private addresses of mirrors, and what this machine trusts besides."""
    flags = [word for file in sorted(CERTIFICATES.glob("*.crt")) for word in ("--sandbox-ca", str(file))]
    for address in sorted({address for host in hosts(python) for address in addresses(host)}):
        if not ipaddress.ip_address(address).is_global:
            flags += ["--allow-private-egress", address]
    return flags


def hosts(python):
    named = said(python, "-c", PIP).split()
    registry = urlsplit(said("npm", "config", "get", "registry").strip()).hostname
    return {host for host in [*named, registry] if host}


def said(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout


def addresses(host):
    try:
        return {found[4][0] for found in socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)}
    except OSError:
        return set()
