"""The control plane over plain HTTP, as a client that is no SDK would use it."""

import os
import socket
import uuid
from urllib.parse import urlsplit

import httpx
import pytest

UNKNOWN = "i" + "0" * 20


class Api:
    """Requests with the server's key, and a record of the sandboxes they made."""

    def __init__(self):
        self.url = os.environ["E2B_API_URL"].rstrip("/")
        self.key = os.environ["E2B_API_KEY"]
        self.template = os.environ.get("SOULBOX_TEST_TEMPLATE", "base")
        self.made = []

    def __call__(self, method, path, key=True, **options):
        headers = {**({"X-API-Key": self.key} if key else {}), **options.pop("headers", {})}
        return httpx.request(method, self.url + path, headers=headers, timeout=70, **options)

    def create(self, path="/sandboxes", headers=None, **body):
        answer = self("POST", path, json={"templateID": self.template, "timeout": 300, **body}, headers=headers or {})
        if answer.status_code == 201:
            self.made.append(answer.json()["sandboxID"])
        return answer

    def count(self):
        return len(self("GET", "/sandboxes").json())

    def dial(self):
        parts = urlsplit(self.url)
        return socket.create_connection((parts.hostname, parts.port), timeout=20)

    def clean_up(self):
        for sandbox_id in self.made:
            self("DELETE", f"/sandboxes/{sandbox_id}")


def is_error(answer, status):
    """E2B's error shape: the status again, and a text for people."""
    assert answer.status_code == status, f"{answer.status_code}: {answer.text[:300]}"
    assert answer.headers["content-type"].startswith("application/json")
    body = answer.json()
    assert body["code"] == status
    assert isinstance(body["message"], str) and body["message"]
    return body


@pytest.fixture
def api():
    api = Api()
    yield api
    api.clean_up()


@pytest.fixture
def sandbox(api):
    answer = api.create(secure=True)
    assert answer.status_code == 201, answer.text
    return answer.json()


@pytest.fixture
def tag():
    return uuid.uuid4().hex
