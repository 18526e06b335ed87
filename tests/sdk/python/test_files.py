"""Read, write, list, move and describe files."""

import asyncio
import datetime
import hashlib
import io
import random

import e2b
import httpx
import pytest


def text(result):
    return result.stdout.strip()


async def test_write_and_read_text(sandbox):
    info = await sandbox.files.write("/home/user/a.txt", "héllo\n")
    assert (info.name, info.path, info.type) == ("a.txt", "/home/user/a.txt", e2b.FileType.FILE)
    assert await sandbox.files.read("/home/user/a.txt") == "héllo\n"
    assert text(await sandbox.commands.run("cat a.txt")) == "héllo"


async def test_write_and_read_bytes(sandbox):
    data = bytes(range(256)) * 100
    await sandbox.files.write("b.bin", data)
    assert bytes(await sandbox.files.read("b.bin", format="bytes")) == data
    digest = text(await sandbox.commands.run("sha256sum b.bin")).split()[0]
    assert digest == hashlib.sha256(data).hexdigest()


async def test_write_from_a_file_object(sandbox, tmp_path):
    data = random.Random(1).randbytes(300_000)
    await sandbox.files.write("from-memory", io.BytesIO(data))
    path = tmp_path / "local"
    path.write_bytes(data)
    with path.open("rb") as file:
        await sandbox.files.write("from-disk", file)
    assert text(await sandbox.commands.run("cmp from-memory from-disk && wc -c < from-disk")) == "300000"


async def test_read_as_a_stream(sdk, sandbox):
    data = random.Random(2).randbytes(3_000_000)
    await sandbox.files.write("big", data)
    stream = await sandbox.files.read("big", format="stream")
    if sdk.sync:
        chunks = await asyncio.to_thread(list, stream)
    else:
        chunks = [chunk async for chunk in stream]
    assert b"".join(chunks) == data
    assert len(chunks) > 1


async def test_an_empty_file(sandbox):
    await sandbox.files.write("empty", "")
    assert await sandbox.files.read("empty") == ""
    assert bytes(await sandbox.files.read("empty", format="bytes")) == b""
    assert (await sandbox.files.get_info("empty")).size == 0


async def test_overwriting_shortens_and_keeps_the_mode(sandbox):
    await sandbox.files.write("f", "a long first version")
    await sandbox.commands.run("chmod 750 f")
    await sandbox.files.write("f", "short")
    assert await sandbox.files.read("f") == "short"
    assert (await sandbox.files.get_info("f")).mode == 0o750


async def test_relative_and_home_paths(sandbox):
    await sandbox.files.write("rel.txt", "1")
    await sandbox.files.write("~/home.txt", "2")
    await sandbox.files.write("sub/../up.txt", "3")
    assert text(await sandbox.commands.run("cat /home/user/rel.txt /home/user/home.txt /home/user/up.txt")) == "123"
    await sandbox.files.write("r.txt", "root's", user="root")
    assert text(await sandbox.commands.run("sudo cat /root/r.txt || cat /root/r.txt", user="root")) == "root's"


async def test_a_write_makes_parents_that_belong_to_the_user(sandbox):
    await sandbox.files.write("/home/user/deep/er/file", "x")
    owners = await sandbox.commands.run("stat -c '%U:%G %a' deep deep/er deep/er/file")
    assert owners.stdout.splitlines() == ["user:user 755", "user:user 755", "user:user 644"]


async def test_ownership_follows_the_user(sandbox):
    await sandbox.files.write("/tmp/of-user", "x")
    await sandbox.files.write("/tmp/of-root", "x", user="root")
    assert (await sandbox.files.get_info("/tmp/of-user")).owner == "user"
    assert (await sandbox.files.get_info("/tmp/of-root")).owner == "root"


@pytest.mark.parametrize("name", ["with space", "ünïcode ☃", "semi;colon&and=", "per%20cent", "plus+", "-dash", "hash#mark?"])
async def test_odd_names(sandbox, name):
    await sandbox.files.write(name, name)
    assert await sandbox.files.read(name) == name
    assert [e.name for e in await sandbox.files.list(".") if e.name == name] == [name]
    assert await sandbox.files.exists(name)
    await sandbox.files.remove(name)
    assert not await sandbox.files.exists(name)


async def test_several_files_in_one_call(sandbox):
    written = await sandbox.files.write_files(
        [
            {"path": "m/one.txt", "data": "1"},
            {"path": "/tmp/two.bin", "data": b"\x00\x01"},
            {"path": "three ☃.txt", "data": io.BytesIO(b"3")},
        ]
    )
    assert [w.path for w in written] == ["/home/user/m/one.txt", "/tmp/two.bin", "/home/user/three ☃.txt"]
    assert await sandbox.files.read("m/one.txt") == "1"
    assert bytes(await sandbox.files.read("/tmp/two.bin", format="bytes")) == b"\x00\x01"
    assert await sandbox.files.read("three ☃.txt") == "3"
    assert await sandbox.files.write_files([]) == []


async def test_list_is_sorted_and_described(sandbox):
    await sandbox.commands.run("mkdir d && cd d && echo hi > b && mkdir a c && ln -s b link && chmod 640 b && touch c/inner")
    entries = await sandbox.files.list("d")
    assert [e.name for e in entries] == ["a", "b", "c", "link"]
    a, b, c, link = entries
    assert a.type == e2b.FileType.DIR and a.permissions == "drwxr-xr-x" and a.size > 0
    assert (b.type, b.size, b.mode, b.permissions) == (e2b.FileType.FILE, 3, 0o640, "-rw-r-----")
    assert (b.owner, b.group, b.path) == ("user", "user", "/home/user/d/b")
    age = datetime.datetime.now(datetime.timezone.utc) - b.modified_time.astimezone(datetime.timezone.utc)
    assert abs(age.total_seconds()) < 60
    assert b.symlink_target is None
    assert link.symlink_target == "/home/user/d/b"
    assert link.permissions == "Lrwxrwxrwx"
    deep = await sandbox.files.list("d", depth=2)
    assert [e.path.removeprefix("/home/user/d/") for e in deep] == ["a", "b", "c", "c/inner", "link"]


async def test_a_symlink_is_recognised(sdk, sandbox):
    await sandbox.commands.run("ln -s /etc/hostname l; ln -s /etc dirlink; ln -s nowhere broken")
    expected = e2b.FileType.SYMLINK if sdk.version >= (2, 55) else e2b.FileType.FILE
    link = await sandbox.files.get_info("l")
    assert link.type == expected and link.symlink_target == "/etc/hostname"
    assert (await sandbox.files.get_info("dirlink")).symlink_target == "/etc"
    broken = await sandbox.files.get_info("broken")
    assert broken.symlink_target == "/home/user/broken"
    assert await sandbox.files.exists("broken"), "a dangling link is there itself"


@pytest.mark.parametrize("path", ["missing", "/no/such/dir/file"])
async def test_what_is_missing_is_not_found(sandbox, path):
    with pytest.raises(e2b.NotFoundException):
        await sandbox.files.read(path)
    with pytest.raises(e2b.NotFoundException):
        await sandbox.files.get_info(path)
    with pytest.raises(e2b.NotFoundException):
        await sandbox.files.list(path)
    with pytest.raises(e2b.NotFoundException):
        await sandbox.files.rename(path, "elsewhere")
    assert await sandbox.files.exists(path) is False
    await sandbox.files.remove(path)


async def test_wrong_kinds_are_invalid_arguments(sandbox):
    await sandbox.files.write("file", "x")
    with pytest.raises(e2b.InvalidArgumentException):
        await sandbox.files.list("file")
    with pytest.raises(e2b.InvalidArgumentException):
        await sandbox.files.read("/tmp")
    with pytest.raises(e2b.InvalidArgumentException):
        await sandbox.files.write("/tmp", "x")
    with pytest.raises(e2b.InvalidArgumentException):
        await sandbox.files.make_dir("file")
    with pytest.raises(e2b.SandboxException):
        await sandbox.files.write("file/below", "x")
    with pytest.raises(e2b.InvalidArgumentException):
        await sandbox.files.read("~someone/file")


async def test_make_dir(sandbox):
    assert await sandbox.files.make_dir("x/y/z") is True
    assert await sandbox.files.make_dir("x/y/z") is False
    info = await sandbox.files.get_info("x/y")
    assert (info.type, info.owner, info.mode) == (e2b.FileType.DIR, "user", 0o755)


async def test_rename(sandbox):
    await sandbox.files.write("old", "content")
    info = await sandbox.files.rename("old", "new/place/name")
    assert (info.name, info.path, info.type) == ("name", "/home/user/new/place/name", e2b.FileType.FILE)
    assert not await sandbox.files.exists("old")
    await sandbox.files.write("other", "replaced")
    await sandbox.files.rename("new/place/name", "other")
    assert await sandbox.files.read("other") == "content"
    await sandbox.files.rename("new", "renamed-dir")
    assert await sandbox.files.exists("renamed-dir/place")


async def test_remove(sandbox):
    await sandbox.commands.run("mkdir -p t/u && touch t/u/f t/g && ln -s /etc t/out")
    await sandbox.files.remove("t/g")
    assert not await sandbox.files.exists("t/g")
    await sandbox.files.remove("t")
    assert not await sandbox.files.exists("t")
    assert await sandbox.files.exists("/etc/passwd"), "links are not followed"


async def test_sixty_four_megabytes_there_and_back(sandbox):
    data = random.Random(3).randbytes(64 << 20)
    digest = hashlib.sha256(data).hexdigest()
    await sandbox.files.write("large", data)
    assert text(await sandbox.commands.run("sha256sum large")).split()[0] == digest
    back = await sandbox.files.read("large", format="bytes")
    assert hashlib.sha256(bytes(back)).hexdigest() == digest


async def test_files_of_the_kernel_can_be_read(sandbox):
    boot_id = await sandbox.files.read("/proc/sys/kernel/random/boot_id")
    assert len(boot_id.strip()) == 36
    assert boot_id == (await sandbox.commands.run("cat /proc/sys/kernel/random/boot_id")).stdout


async def test_gzip_both_ways(sandbox):
    data = b"compress me " * 50_000
    await sandbox.files.write("z", data, gzip=True)
    assert text(await sandbox.commands.run("wc -c < z")) == str(len(data))
    assert bytes(await sandbox.files.read("z", format="bytes", gzip=True)) == data


async def test_octet_stream_upload(sandbox):
    await sandbox.files.write("raw", b"\xff" * 1000, use_octet_stream=True)
    assert (await sandbox.files.get_info("raw")).size == 1000


async def test_metadata(sandbox):
    written = await sandbox.files.write("m", "x", metadata={"purpose": "test", "Note": "two words"})
    assert written.metadata == {"purpose": "test", "note": "two words"}
    assert (await sandbox.files.get_info("m")).metadata == {"purpose": "test", "note": "two words"}
    [entry] = [e for e in await sandbox.files.list(".") if e.name == "m"]
    assert entry.metadata == {"purpose": "test", "note": "two words"}
    renamed = await sandbox.files.rename("m", "n")
    assert renamed.metadata == {"purpose": "test", "note": "two words"}
    await sandbox.files.write("n", "y")
    assert not (await sandbox.files.get_info("n")).metadata, "an upload replaces the whole set"


@pytest.mark.base
async def test_metadata_is_extended_attributes(sandbox):
    await sandbox.files.write("m", "x", metadata={"k": "v"})
    assert "user.e2b.k=\"v\"" in (await sandbox.commands.run("getfattr -d m")).stdout
    await sandbox.commands.run("setfattr -n user.e2b.out-of-band -v yes m")
    assert (await sandbox.files.get_info("m")).metadata == {"k": "v", "out-of-band": "yes"}


async def test_forty_files_at_once(sandbox):
    await asyncio.gather(*[sandbox.files.write(f"many/{n}", str(n) * 1000) for n in range(40)])
    contents = await asyncio.gather(*[sandbox.files.read(f"many/{n}") for n in range(40)])
    assert contents == [str(n) * 1000 for n in range(40)]
    assert len(await sandbox.files.list("many")) == 40


def routed(sandbox):
    """What a client of the shared address says to reach the daemon of one sandbox."""
    return {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "49983"}


async def test_signed_download(sandbox):
    await sandbox.files.write("public report.txt", "for everyone with the link")
    url = sandbox.download_url("public report.txt")
    answer = httpx.get(url, headers=routed(sandbox))
    assert (answer.status_code, answer.text) == (200, "for everyone with the link")
    part = httpx.get(url, headers={**routed(sandbox), "Range": "bytes=4-11"})
    assert (part.status_code, part.text) == (206, "everyone")
    as_user = sandbox.download_url("public report.txt", user="user", use_signature_expiration=60)
    assert httpx.get(as_user, headers=routed(sandbox)).status_code == 200


async def test_signed_upload(sandbox):
    url = sandbox.upload_url("inbox/by-link.txt", use_signature_expiration=60)
    answer = httpx.post(url, headers=routed(sandbox), files={"file": ("ignored", b"uploaded")})
    assert answer.status_code == 200, answer.text
    assert answer.json()[0]["path"] == "/home/user/inbox/by-link.txt"
    assert await sandbox.files.read("inbox/by-link.txt") == "uploaded"


async def test_a_link_ends_and_cannot_be_bent(sandbox):
    await sandbox.files.write("secret.txt", "s")
    expired = sandbox.download_url("secret.txt", use_signature_expiration=1)
    tampered = sandbox.download_url("secret.txt").replace("secret.txt", "other.txt")
    read_link = sandbox.download_url("secret.txt")
    unsigned = read_link.split("?")[0] + "?path=secret.txt"
    await asyncio.sleep(2.1)
    for url, message in [
        (expired, "signature is already expired"),
        (tampered, "invalid signature"),
        (unsigned, "missing signature query parameter"),
    ]:
        answer = httpx.get(url, headers=routed(sandbox))
        assert answer.status_code == 401, url
        assert answer.json()["code"] == 401 and message in answer.json()["message"]
    upload = httpx.post(read_link, headers=routed(sandbox), files={"file": b"x"})
    assert upload.status_code == 401, "a link for reading does not write"
    wrong = httpx.get(read_link, headers={**routed(sandbox), "X-Access-Token": "wrong"})
    assert wrong.status_code == 401


async def test_a_link_works_by_host_name_alone(sandbox, server):
    await sandbox.files.write("hosted.txt", "by name")
    query = sandbox.download_url("hosted.txt").split("?", 1)[1]
    answer = httpx.get(f"{server.url}/files?{query}", headers={"Host": sandbox.get_host(49983)})
    assert (answer.status_code, answer.text) == (200, "by name")


async def test_a_link_works_by_itself(sdk, sandbox):
    await sandbox.files.write("whole.txt", "nothing else needed")
    await sdk.create()  # one more, whose token made none of these
    link = sandbox.download_url("whole.txt", use_signature_expiration=60)
    assert (httpx.get(link).status_code, httpx.get(link).text) == (200, "nothing else needed")
    upload = httpx.post(sandbox.upload_url("sent.txt"), files={"file": b"by link"})
    assert upload.status_code == 200, upload.text
    assert await sandbox.files.read("sent.txt") == "by link"
    for url, message in [
        (link.replace("whole", "other"), "invalid signature"),
        (link.split("&signature=")[0], "missing signature query parameter"),
        (sandbox.download_url("whole.txt", use_signature_expiration=-5), "signature is already expired"),
    ]:
        answer = httpx.get(url)
        assert answer.status_code == 401, url
        assert answer.json()["code"] == 401 and message in answer.json()["message"]
    await sandbox.kill()
    assert httpx.get(link).status_code == 401
