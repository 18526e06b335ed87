import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import test from 'node:test'
import { AuthenticationError, NotFoundError, SandboxError, SandboxNotFoundError } from 'e2b'
import { Sandbox, create, eventually, scenario, sleep, template } from './setup.mjs'

test('a sandbox lives until it is killed', async () => {
  const sandbox = await Sandbox.create(template)
  assert.match(sandbox.sandboxId, /^[a-z0-9]+$/)
  assert.equal(await sandbox.isRunning(), true)
  assert.equal((await sandbox.commands.run('echo alive')).stdout, 'alive\n')
  assert.equal(await sandbox.kill(), true)
  assert.equal(await sandbox.isRunning(), false)
  assert.equal(await sandbox.kill(), false)
})

test('info and environment', async (t) => {
  const sandbox = await create(t, { timeoutMs: 90_000, metadata: { purpose: 'js' }, envs: { COLOUR: 'dark blue' } })
  const info = await sandbox.getInfo()
  assert.equal(info.sandboxId, sandbox.sandboxId)
  assert.equal(info.state, 'running')
  assert.deepEqual(info.metadata, { purpose: 'js' })
  assert.ok(info.cpuCount >= 1 && info.memoryMB >= 128)
  const life = info.endAt - info.startedAt
  assert.ok(life >= 89_000 && life <= 91_000, `${life}`)
  const seen = await sandbox.commands.run('echo $COLOUR; echo $E2B_SANDBOX $E2B_SANDBOX_ID')
  assert.equal(seen.stdout, `dark blue\ntrue ${sandbox.sandboxId}\n`)
})

scenario('connect finds the same machine', async (sandbox) => {
  await sandbox.files.write('note', 'hello')
  const again = await Sandbox.connect(sandbox.sandboxId)
  assert.equal(await again.files.read('note'), 'hello')
  await assert.rejects(Sandbox.connect('i' + '0'.repeat(20)), SandboxNotFoundError)
})

scenario('connect extends and setTimeout moves both ways', async (sandbox) => {
  await Sandbox.connect(sandbox.sandboxId, { timeoutMs: 1_800_000 })
  assert.ok((await sandbox.getInfo()).endAt - Date.now() > 1_790_000)
  await sandbox.setTimeout(100_000)
  const left = (await sandbox.getInfo()).endAt - Date.now()
  assert.ok(left > 95_000 && left < 101_000, `${left}`)
})

test('a sandbox ends on time', async (t) => {
  const sandbox = await create(t, { timeoutMs: 4_000 })
  const started = Date.now()
  await sleep(700)
  assert.equal(await sandbox.isRunning(), true)
  await eventually(async () => !(await sandbox.isRunning()), 20_000)
  assert.ok(Date.now() - started < 12_000)
  await assert.rejects(sandbox.getInfo(), SandboxNotFoundError)
  await assert.rejects(sandbox.commands.run('echo nobody'), SandboxError)
})

test('errors have their classes', async () => {
  await assert.rejects(Sandbox.create('no-such-template'), (error) => error instanceof SandboxError && /no-such-template/.test(error.message))
  await assert.rejects(Sandbox.create(template, { apiKey: 'e2b_' + '0'.repeat(40) }), AuthenticationError)
  await assert.rejects(Sandbox.getInfo('i' + '0'.repeat(20)), NotFoundError)
  assert.equal(await Sandbox.kill('i' + '0'.repeat(20)), false)
})

test('listing pages and filters', async (t) => {
  const tag = randomUUID()
  const made = []
  for (let n = 0; n < 3; n++) {
    made.push((await create(t, { metadata: { tag, n: String(n), odd: 'a&b=c d/é+%' } })).sandboxId)
  }
  const paginator = Sandbox.list({ query: { metadata: { tag } }, limit: 2 })
  const found = []
  while (paginator.hasNext) found.push(...(await paginator.nextItems()).map((s) => s.sandboxId))
  assert.deepEqual(found, made.toReversed())
  const only = async (query) => (await Sandbox.list({ query }).nextItems()).map((s) => s.sandboxId)
  assert.deepEqual(await only({ metadata: { tag, n: '1', odd: 'a&b=c d/é+%' } }), [made[1]])
  assert.deepEqual(await only({ metadata: { tag }, state: ['paused'] }), [])
})

scenario('metrics are measured', async (sandbox) => {
  const points = await eventually(async () => {
    const found = await sandbox.getMetrics()
    return found.length > 0 && found
  }, 20_000)
  const last = points.at(-1)
  assert.ok(last.memUsed > 0 && last.memUsed <= last.memTotal)
  assert.ok(last.diskTotal > 0 && last.cpuCount >= 1)
})

test('twenty sandboxes at once', { timeout: 60_000 }, async (t) => {
  const sandboxes = await Promise.all(Array.from({ length: 20 }, () => create(t)))
  const outputs = await Promise.all(sandboxes.map((s, n) => s.commands.run(`echo ${n}`)))
  assert.deepEqual(outputs.map((o) => o.stdout), sandboxes.map((_, n) => `${n}\n`))
})
