// What a user of any version does; run by test_versions.py. Arguments: where the package is, the template's name.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'

const [where, template] = process.argv.slice(2)
const require = createRequire(`${where}/`)
const { Sandbox, CommandExitError, InvalidArgumentError, NotFoundError, SandboxError, TimeoutError } = require('e2b')
const [major, minor] = require(`${where}/node_modules/e2b/package.json`).version.split('.').map(Number)
const since = (x, y) => major > x || (major === x && minor >= y)
const nobody = 'i' + '0'.repeat(20)

async function commands(sandbox) {
  const run = (...all) => sandbox.commands.run(...all)
  const result = await run('echo $X; id -un; echo err >&2')
  assert.deepEqual([result.stdout, result.stderr, result.exitCode], ['1 2\nuser\n', 'err\n', 0])
  await assert.rejects(run('echo out; exit 3'), (error) => error instanceof CommandExitError && error.exitCode === 3 && error.stdout === 'out\n')
  assert.equal((await run('pwd; id -u', { cwd: '/tmp', user: 'root' })).stdout, '/tmp\n0\n')
  await assert.rejects(run('true', { cwd: '/not/there' }), InvalidArgumentError)
  await assert.rejects(run('sleep 9', { timeoutMs: 500 }), TimeoutError)
  const handle = await run('read line; echo got $line', { background: true, ...(since(2, 10) ? { stdin: true } : {}) })
  await sandbox.commands.sendStdin(handle.pid, 'it\n')
  assert.equal((await handle.wait()).stdout, 'got it\n')
  const victim = await run('sleep 60', { background: true })
  assert.ok((await sandbox.commands.list()).some((process) => process.pid === victim.pid))
  assert.deepEqual([await sandbox.commands.kill(victim.pid), await sandbox.commands.kill(victim.pid)], [true, false])
  await assert.rejects(victim.wait(), CommandExitError)
}

async function terminal(sandbox) {
  let seen = ''
  const shell = await sandbox.pty.create({ cols: 80, rows: 24, onData: (data) => (seen += Buffer.from(data).toString()) })
  await sandbox.pty.resize(shell.pid, { cols: 100, rows: 30 })
  await sandbox.pty.sendInput(shell.pid, new TextEncoder().encode('stty size; exit\n'))
  assert.equal((await shell.wait()).exitCode, 0)
  assert.match(seen, /30 100/)
}

async function files(sandbox) {
  const fs = sandbox.files
  assert.equal((await fs.write('d/a.txt', 'héllo')).path, '/home/user/d/a.txt')
  assert.equal(await fs.read('d/a.txt'), 'héllo')
  await fs.write('b.bin', new Uint8Array([0, 255]).buffer)
  assert.deepEqual([...(await fs.read('b.bin', { format: 'bytes' }))], [0, 255])
  await fs.write('empty', '')
  assert.equal(await fs.read('empty'), '')
  assert.deepEqual((await fs.list('d')).map((entry) => [entry.name, entry.path]), [['a.txt', '/home/user/d/a.txt']])
  assert.deepEqual([await fs.exists('d'), await fs.exists('nope')], [true, false])
  await assert.rejects(fs.read('/nope'), NotFoundError)
  await assert.rejects(fs.list('/nope'), NotFoundError)
  assert.deepEqual([await fs.makeDir('x/y'), await fs.makeDir('x/y')], [true, false])
  assert.equal((await fs.rename('b.bin', 'x/c.bin')).path, '/home/user/x/c.bin')
  await fs.remove('x')
  const link = await sandbox.downloadUrl('d/a.txt')
  assert.equal(await (await fetch(link)).text(), 'héllo')
  const form = new FormData()
  form.append('file', new Blob(['sent']), 'up.txt')
  assert.equal((await fetch(await sandbox.uploadUrl('up.txt'), { method: 'POST', body: form })).status, 200)
  assert.equal(await fs.read('up.txt'), 'sent')
}

async function life(sandbox) {
  const all = since(2, 0) ? await Sandbox.list().nextItems() : await Sandbox.list()
  const bare = (id) => id.split('-')[0]
  const entry = all.find((listed) => bare(listed.sandboxId) === bare(sandbox.sandboxId))
  assert.deepEqual(entry.metadata, { odd: 'b c&d=e' })
  await sandbox.setTimeout(200_000)
  const again = await Sandbox.connect(sandbox.sandboxId)
  assert.equal((await again.commands.run('echo still $X')).stdout, 'still 1 2\n')
  assert.equal(await again.files.read('d/a.txt'), 'héllo')
  assert.ok(await again.isRunning())
  if (since(1, 13)) await assert.rejects(Sandbox.connect(nobody), SandboxError)
  assert.equal(await Sandbox.kill(nobody), false)
  await assert.rejects(Sandbox.create('no-such'), /no-such/)
  await assert.rejects(Sandbox.create(template, { apiKey: 'e2b_' + '0'.repeat(40) }))
  await sandbox.kill()
  assert.equal(await sandbox.isRunning(), false)
  await assert.rejects(sandbox.commands.run('true'), NotFoundError)
}

const sandbox = await Sandbox.create(template, { timeoutMs: 120_000, metadata: { odd: 'b c&d=e' }, envs: { X: '1 2' } })
try {
  assert.ok(await sandbox.isRunning())
  await commands(sandbox)
  await terminal(sandbox)
  await files(sandbox)
  await life(sandbox)
} finally {
  await sandbox.kill()
}
console.log('done')
// Some versions keep connections open that hold the program.
process.exit(0)
