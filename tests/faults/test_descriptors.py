"""The server runs out of open files, and has some again."""

import os
import resource
import time

import httpx
import pytest

from conftest import surviving


@pytest.fixture(scope="module", params=[0, 4], ids=["no pool", "pool"])
def crashing(request):
    yield from surviving(1, request.param)


@pytest.mark.parametrize("spare", [0, 2, 4, 8, 16, 32])
def test_without_descriptors_creates_are_refused_and_nothing_else_breaks(crashing, spare):
    server = crashing.server
    pid = server.process.pid
    url, key = server.url, {"X-API-Key": server.client()["api_key"]}
    before = crashing.settle()
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    with httpx.Client(base_url=url, headers=key, timeout=20) as api:
        assert api.get("/sandboxes").status_code == 200
        used = max(int(fd) for fd in os.listdir(f"/proc/{pid}/fd")) + 1
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + spare, limits[1]))
        made = []
        try:
            refusals = 0
            for _ in range(40):
                answer = api.post("/sandboxes", json={"templateID": "host", "timeout": 900})
                if answer.status_code == 201:
                    made.append(answer.json()["sandboxID"])
                    continue
                refusals += 1
                said = answer.json()["soulbox"]
                assert answer.status_code == 503 and said["retryable"], answer.text
                if refusals == 3:
                    break
            assert refusals == 3, "there were descriptors enough"
            busy, began = cpu(pid), time.monotonic()
            time.sleep(0.5)
            assert cpu(pid) - busy < 0.6 * (time.monotonic() - began), "the server turns in circles"
            assert api.get("/sandboxes").status_code == 200, "a connection that is open goes on"
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
            ended = [api.delete(f"/sandboxes/{sandbox}").status_code for sandbox in made]
        assert set(ended) <= {204}
        again = api.post("/sandboxes", json={"templateID": "host", "timeout": 900})
        assert again.status_code == 201, again.text
        assert api.delete(f"/sandboxes/{again.json()['sandboxID']}").status_code == 204
    crashing.survivors[0].check()
    assert crashing.settle(wanted=before) == before


def cpu(pid):
    """Seconds of processor time."""
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
