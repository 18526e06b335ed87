"""Watch a directory."""

import asyncio

import e2b
import pytest

from flavours import eventually

CREATE, WRITE = e2b.FilesystemEventType.CREATE, e2b.FilesystemEventType.WRITE
REMOVE, RENAME = e2b.FilesystemEventType.REMOVE, e2b.FilesystemEventType.RENAME
CHMOD = e2b.FilesystemEventType.CHMOD


class Watch:
    """Events of one directory: polled by the synchronous client, pushed to the asynchronous one."""

    @classmethod
    async def start(cls, sdk, sandbox, path, **options):
        self = cls()
        self.sync, self.seen, self.ended = sdk.sync, [], []
        if sdk.sync:
            self.handle = await sandbox.files.watch_dir(path, **options)
        else:
            self.handle = await sandbox.files.watch_dir(
                path, on_event=self.seen.append, on_exit=self.ended.append, **options
            )
        return self

    async def events(self):
        if self.sync:
            self.seen += await self.handle.get_new_events()
        return self.seen

    async def until(self, check):
        async def found():
            return check([(e.name, e.type) for e in await self.events()])

        await eventually(found, within=20, every=0.05)


async def test_a_new_file_is_three_events(sdk, sandbox):
    await sandbox.files.make_dir("watched")
    watch = await Watch.start(sdk, sandbox, "watched")
    await sandbox.files.write("watched/new.txt", "x")
    if not sdk.sync:
        # What comes after the end of the upload would come before this.
        await sandbox.files.make_dir("watched/end")
        await watch.until(lambda e: ("end", CREATE) in e)
    # The synchronous client polls right after its write returned: all must be there by then.
    events = [e for e in await watch.events() if e.name != "end"]
    assert [(e.name, e.type) for e in events] == [("new.txt", CREATE), ("new.txt", CHMOD), ("new.txt", WRITE)]
    assert all(e.entry is None for e in events)
    await watch.handle.stop()


async def test_each_kind_of_event(sdk, sandbox):
    await sandbox.commands.run("mkdir w && touch w/changed w/renamed w/removed")
    watch = await Watch.start(sdk, sandbox, "w")
    await sandbox.commands.run("echo x >> w/changed")
    await watch.until(lambda e: ("changed", WRITE) in e)
    await sandbox.commands.run("chmod 600 w/changed")
    await watch.until(lambda e: ("changed", CHMOD) in e)
    await sandbox.files.rename("w/renamed", "w/after")
    await watch.until(lambda e: ("renamed", RENAME) in e and ("after", CREATE) in e)
    await sandbox.files.remove("w/removed")
    await watch.until(lambda e: ("removed", REMOVE) in e)
    await watch.handle.stop()


async def test_below_only_when_recursive(sdk, sandbox):
    await sandbox.files.make_dir("top/old")
    flat = await Watch.start(sdk, sandbox, "top")
    deep = await Watch.start(sdk, sandbox, "top", recursive=True)
    await sandbox.files.write("top/old/a", "x")
    await deep.until(lambda e: ("old/a", WRITE) in e)
    await sandbox.files.make_dir("top/new")
    await sandbox.files.write("top/new/b", "x")
    await deep.until(lambda e: ("new", CREATE) in e and ("new/b", WRITE) in e)
    await sandbox.commands.run("mkdir -p top/x/y/z && touch top/x/y/z/f")
    await deep.until(lambda e: ("x/y/z/f", CREATE) in e)
    await flat.until(lambda e: ("new", CREATE) in e)
    assert not [e for e in await flat.events() if "/" in e.name]
    await flat.handle.stop()
    await deep.handle.stop()


async def test_entries_come_along_when_asked_for(sdk, sandbox):
    await sandbox.files.make_dir("w")
    watch = await Watch.start(sdk, sandbox, "w", include_entry=True)
    await sandbox.files.write("w/f", "four")
    await watch.until(lambda e: ("f", WRITE) in e)
    written = [e for e in await watch.events() if e.type == WRITE][-1]
    assert (written.entry.path, written.entry.size, written.entry.owner) == ("/home/user/w/f", 4, "user")
    await sandbox.files.remove("w/f")
    await watch.until(lambda e: ("f", REMOVE) in e)
    assert [e.entry for e in await watch.events() if e.type == REMOVE] == [None]
    await watch.handle.stop()


async def test_a_stopped_watch_reports_nothing(sdk, sandbox):
    await sandbox.files.make_dir("w")
    watch = await Watch.start(sdk, sandbox, "w")
    await sandbox.files.make_dir("w/before")
    await watch.until(lambda e: ("before", CREATE) in e)
    await watch.handle.stop()
    before = len(watch.seen)
    await sandbox.files.write("w/f", "x")
    if sdk.sync:
        with pytest.raises(e2b.SandboxException):
            await watch.handle.get_new_events()
    else:
        async def ended():
            return watch.ended

        await eventually(ended)
        await asyncio.sleep(0.5)
        assert len(watch.seen) == before
        assert watch.ended == [None]


async def test_only_directories_can_be_watched(sdk, sandbox):
    await sandbox.files.write("file", "x")
    with pytest.raises(e2b.NotFoundException):
        await Watch.start(sdk, sandbox, "missing")
    with pytest.raises(e2b.InvalidArgumentException):
        await Watch.start(sdk, sandbox, "file")


async def test_a_busy_directory_loses_nothing(sdk, sandbox):
    await sandbox.files.make_dir("busy")
    watch = await Watch.start(sdk, sandbox, "busy")
    await sandbox.commands.run("cd busy && for i in $(seq 500); do : > f$i; done")
    await watch.until(lambda e: {n for n, t in e if t == CREATE} == {f"f{i}" for i in range(1, 501)})
    await watch.handle.stop()
