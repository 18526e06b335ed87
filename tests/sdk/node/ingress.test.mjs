import { test } from 'node:test'
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { Secret } from 'e2b'
import { Sandbox, create, eventually, fetchHost } from './setup.mjs'

const HEADER = 'e2b-traffic-access-token'

async function serving(t, network) {
  const sandbox = await create(t, { network })
  await sandbox.files.write('www/index.html', 'from inside')
  await sandbox.commands.run('cd www && exec python3 -m http.server 8000 --bind 127.0.0.1', { background: true, timeoutMs: 0 })
  const headers = sandbox.trafficAccessToken ? { [HEADER]: sandbox.trafficAccessToken } : {}
  await eventually(async () => (await fetchHost(sandbox.getHost(8000), '/', { headers })).status === 200, 20_000)
  return sandbox
}

test('a private port needs its token', { timeout: 60_000 }, async (t) => {
  const sandbox = await serving(t, { allowPublicTraffic: false })
  const token = sandbox.trafficAccessToken
  const host = sandbox.getHost(8000)
  assert.ok(token)
  assert.equal((await fetchHost(host)).status, 403)
  assert.equal((await fetchHost(host, '/', { headers: { [HEADER]: 'wrong' } })).status, 403)
  assert.equal((await fetchHost(host, '/index.html', { headers: { [HEADER]: token } })).body, 'from inside')
  assert.equal((await Sandbox.connect(sandbox.sandboxId)).trafficAccessToken, token)
})

test('a public port has no token', { timeout: 60_000 }, async (t) => {
  const sandbox = await serving(t, undefined)
  assert.ok(!sandbox.trafficAccessToken)
  assert.equal((await fetchHost(sandbox.getHost(8000), '/index.html')).body, 'from inside')
})

test('a mask that is no host is refused', { timeout: 60_000 }, async (t) => {
  await assert.rejects(create(t, { network: { maskRequestHost: 'a b' } }), /network\.maskRequestHost/)
})

test('secrets live', { timeout: 60_000 }, async (t) => {
  const name = `test-${randomUUID().slice(0, 12)}`
  const made = await Secret.create(name, 'hunter2', { metadata: { for: 'tests' } })
  t.after(() => Secret.destroy(name))
  assert.equal(made.version, 1)
  assert.equal((await Secret.update(made.secretId, 'hunter3')).version, 2)
  assert.deepEqual((await Secret.getInfo(name)).metadata, { for: 'tests' })
  const found = []
  const paginator = Secret.list({ limit: 100 })
  while (paginator.hasNext) found.push(...(await paginator.nextItems()))
  assert.ok(found.some((secret) => secret.name === name))
  assert.ok(!JSON.stringify(found).includes('hunter'))
  assert.equal(await Secret.destroy(name), true)
  assert.equal(await Secret.destroy(name), false)
})
