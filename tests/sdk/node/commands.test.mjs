import assert from 'node:assert/strict'
import { AuthenticationError, CommandExitError, InvalidArgumentError, NotFoundError, TimeoutError } from 'e2b'
import { Sandbox, eventually, onBase, scenario } from './setup.mjs'

scenario('result, failure and missing program', async (sandbox) => {
  const result = await sandbox.commands.run('echo out; echo err >&2')
  assert.deepEqual([result.stdout, result.stderr, result.exitCode], ['out\n', 'err\n', 0])
  await assert.rejects(sandbox.commands.run('echo before; exit 3'), (error) => {
    assert.ok(error instanceof CommandExitError)
    assert.deepEqual([error.exitCode, error.stdout, error.error], [3, 'before\n', 'exit status 3'])
    return true
  })
  await assert.rejects(sandbox.commands.run('no-such-program'), (error) => error.exitCode === 127)
})

scenario('output arrives while the command runs', async (sandbox) => {
  const seen = []
  const command = 'for i in 1 2 3; do echo $i; while [ ! -e seen$i ]; do sleep 0.02; done; done'
  const running = sandbox.commands.run(command, { onStdout: (text) => seen.push(text) })
  for (const line of [1, 2, 3]) {
    await eventually(() => seen.length === line)
    await sandbox.files.write(`seen${line}`, '')
  }
  await running
  assert.deepEqual(seen, ['1\n', '2\n', '3\n'])
})

scenario('user, directory and environment', async (sandbox) => {
  assert.equal((await sandbox.commands.run('id -un; pwd')).stdout, 'user\n/home/user\n')
  assert.equal((await sandbox.commands.run('id -u', { user: 'root' })).stdout, '0\n')
  assert.equal((await sandbox.commands.run('echo "$PWD $A"', { cwd: '/tmp', envs: { A: 'x' } })).stdout, '/tmp x\n')
  await assert.rejects(sandbox.commands.run('true', { user: 'nobody-knows' }), AuthenticationError)
  await assert.rejects(sandbox.commands.run('true', { cwd: '/not/there' }), (error) => error instanceof InvalidArgumentError && /does not exist/.test(error.message))
})

scenario('sudo', async (sandbox) => {
  assert.equal((await sandbox.commands.run('sudo id -u')).stdout, '0\n')
}, { skip: !onBase })

scenario('standard input', async (sandbox) => {
  const handle = await sandbox.commands.run('cat; echo done', { background: true, stdin: true })
  await sandbox.commands.sendStdin(handle.pid, 'one\n')
  await handle.sendStdin('two ☃\n')
  await sandbox.commands.closeStdin(handle.pid)
  assert.equal((await handle.wait()).stdout, 'one\ntwo ☃\ndone\n')
})

scenario('list, connect and kill', async (sandbox) => {
  const handle = await sandbox.commands.run('while [ ! -e go ]; do sleep 0.05; done; echo went', { background: true })
  await handle.disconnect()
  const other = await Sandbox.connect(sandbox.sandboxId)
  const [process] = await other.commands.list()
  assert.equal(process.pid, handle.pid)
  const again = await other.commands.connect(process.pid)
  await sandbox.files.write('go', '')
  assert.equal((await again.wait()).stdout, 'went\n')
  await assert.rejects(sandbox.commands.connect(999_999), NotFoundError)

  const victim = await sandbox.commands.run('exec sleep 60', { background: true })
  assert.equal(await sandbox.commands.kill(victim.pid), true)
  await assert.rejects(victim.wait(), (error) => error instanceof CommandExitError && error.exitCode === -1 && error.message === 'signal: killed')
  assert.equal(await sandbox.commands.kill(victim.pid), false)
  assert.deepEqual(await sandbox.commands.list(), [])
})

scenario('time limit', async (sandbox) => {
  await assert.rejects(sandbox.commands.run('exec sleep 4323', { timeoutMs: 1_000 }), TimeoutError)
  await eventually(async () => (await sandbox.commands.list()).length === 0, 15_000)
})

scenario('twenty megabytes of output', async (sandbox) => {
  const { stdout } = await sandbox.commands.run("head -c 20000000 /dev/zero | tr '\\0' x")
  assert.equal(stdout.length, 20_000_000)
})

scenario('fifty commands at once', async (sandbox) => {
  const results = await Promise.all(Array.from({ length: 50 }, (_, n) => sandbox.commands.run(`sleep 0.3; echo ${n}`)))
  assert.deepEqual(results.map((r) => r.stdout), results.map((_, n) => `${n}\n`))
})

scenario('a command is cut when its sandbox is killed', async (sandbox) => {
  const handle = await sandbox.commands.run('sleep 60', { background: true })
  const outcome = assert.rejects(handle.wait(), TimeoutError)
  await sandbox.kill()
  await outcome
})

scenario('terminal', async (sandbox) => {
  let output = ''
  const terminal = await sandbox.pty.create({ cols: 77, rows: 11, onData: (data) => (output += Buffer.from(data).toString()) })
  const type = (line) => sandbox.pty.sendInput(terminal.pid, Buffer.from(line))
  await type('stty size; echo $TERM\n')
  await eventually(() => output.includes('11 77') && output.includes('xterm-256color'))
  await sandbox.pty.resize(terminal.pid, { cols: 101, rows: 33 })
  await type('stty size\n')
  await eventually(() => output.includes('33 101'))
  await type('exit 5\n')
  await assert.rejects(terminal.wait(), (error) => error instanceof CommandExitError && error.exitCode === 5)
  const second = await sandbox.pty.create({ cols: 80, rows: 24, onData: () => {} })
  assert.equal(await sandbox.pty.kill(second.pid), true)
  await assert.rejects(second.wait(), CommandExitError)
})
