"""What clients do in a crowd of sandboxes: a fixed number of things a second, whether the last ones are done or not."""

import asyncio
import random
import time
from collections import Counter, defaultdict

import e2b
import httpx

from conftest import PORT, SERVING

# What a thing may take before it counts as an error.
PATIENCE = 30


class Crowd:
    def __init__(self, server, ids, seed=1):
        self.server, self.ids, self.chance = server, ids, random.Random(seed)
        self.errors, self.done = [], Counter()
        # Phase → how long commands took, from the moment at which they were due.
        self.commands = defaultdict(list)
        self.phase = None
        self.sandboxes = {}

    async def go(self, rate, until):
        """Begins `rate` things a second until the event is set, and waits for the last one."""
        tasks, began, number = set(), time.monotonic(), 0
        async with httpx.AsyncClient(timeout=PATIENCE) as self.http:
            while not until.is_set():
                due = began + number / rate
                await asyncio.sleep(max(0, due - time.monotonic()))
                number += 1
                task = asyncio.create_task(self.one(due))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.gather(*tasks)

    async def one(self, due):
        kind = self.chance.choices([self.command, self.file, self.port, self.terminal], [6, 2, 1, 1])[0]
        serving = kind == self.port
        sandbox_id = self.chance.choice(self.ids[:SERVING] if serving else self.ids)
        phase = self.phase
        try:
            async with asyncio.timeout(PATIENCE):
                await kind(await self.sandbox(sandbox_id))
        except Exception as error:
            self.errors.append(f"{phase}: {kind.__name__} in {sandbox_id}: {type(error).__name__}: {error}")
            return
        self.done[kind.__name__] += 1
        if kind == self.command:
            self.commands[phase].append(time.monotonic() - due)

    async def sandbox(self, sandbox_id):
        if sandbox_id not in self.sandboxes:
            self.sandboxes[sandbox_id] = await e2b.AsyncSandbox.connect(sandbox_id, timeout=86_400, **self.server.client())
        return self.sandboxes[sandbox_id]

    async def command(self, sandbox):
        number = self.chance.randrange(10**6)
        result = await sandbox.commands.run(f"echo $(({number} + 1))", timeout=PATIENCE)
        assert result.stdout == f"{number + 1}\n", result

    async def file(self, sandbox):
        text = str(self.chance.random()) * self.chance.choice([1, 1000, 5000])
        path = f"/home/user/{self.chance.randrange(10**9)}"
        await sandbox.files.write(path, text)
        assert await sandbox.files.read(path) == text
        await sandbox.files.remove(path)

    async def port(self, sandbox):
        answer = await self.http.get(self.server.url, headers={"Host": sandbox.get_host(PORT)})
        assert answer.status_code == 200 and answer.text == "served\n", answer

    async def terminal(self, sandbox):
        seen = asyncio.Event()
        output = bytearray()

        def heard(data):
            output.extend(data)
            if b"terminal-42" in output:
                seen.set()

        terminal = await sandbox.pty.create(e2b.PtySize(rows=24, cols=80), on_data=heard, timeout=PATIENCE)
        await sandbox.pty.send_stdin(terminal.pid, b"echo terminal-$((6 * 7))\n")
        await seen.wait()
        await terminal.kill()


def p99(values):
    return sorted(values)[max(0, int(len(values) * 0.99) - 1)]
