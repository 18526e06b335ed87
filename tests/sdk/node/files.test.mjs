import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { FileNotFoundError, FileType, FilesystemEventType, InvalidArgumentError, NotFoundError } from 'e2b'
import { eventually, fetchHost, onBase, scenario, sleep } from './setup.mjs'

scenario('text, bytes, blobs and streams', async (sandbox) => {
  const written = await sandbox.files.write('a.txt', 'héllo')
  assert.deepEqual([written.name, written.path, written.type], ['a.txt', '/home/user/a.txt', FileType.FILE])
  assert.equal(await sandbox.files.read('a.txt'), 'héllo')
  const data = randomBytes(200_000)
  await sandbox.files.write('b.bin', data.buffer.slice(data.byteOffset, data.byteOffset + data.length))
  assert.deepEqual(Buffer.from(await sandbox.files.read('b.bin', { format: 'bytes' })), data)
  await sandbox.files.write('c.bin', new Blob([data]))
  assert.deepEqual(Buffer.from(await (await sandbox.files.read('c.bin', { format: 'blob' })).arrayBuffer()), data)
  await sandbox.files.write('d.bin', new Blob([data]).stream())
  const chunks = []
  for await (const chunk of await sandbox.files.read('d.bin', { format: 'stream' })) chunks.push(chunk)
  assert.deepEqual(Buffer.concat(chunks), data)
  await sandbox.files.write('empty', '')
  assert.equal(await sandbox.files.read('empty'), '')
})

scenario('several files and gzip', async (sandbox) => {
  const infos = await sandbox.files.write([{ path: 'm/1', data: 'one' }, { path: '/tmp/2', data: 'two' }])
  assert.deepEqual(infos.map((i) => i.path), ['/home/user/m/1', '/tmp/2'])
  assert.equal(await sandbox.files.read('m/1'), 'one')
  await sandbox.files.write('z', 'squeeze '.repeat(10_000), { gzip: true })
  assert.equal((await sandbox.files.getInfo('z')).size, 80_000)
  await sandbox.files.write('o', 'octets', { useOctetStream: true })
  assert.equal(await sandbox.files.read('o', { gzip: true }), 'octets')
})

scenario('describe, list, move and remove', async (sandbox) => {
  assert.equal(await sandbox.files.makeDir('d/e'), true)
  assert.equal(await sandbox.files.makeDir('d/e'), false)
  await sandbox.files.write('d/e/f', 'four')
  await sandbox.commands.run('ln -s f d/e/link && chmod 600 d/e/f')
  const entries = await sandbox.files.list('d', { depth: 2 })
  assert.deepEqual(entries.map((e) => e.path), ['/home/user/d/e', '/home/user/d/e/f', '/home/user/d/e/link'])
  const [directory, file, link] = entries
  assert.equal(directory.type, FileType.DIR)
  assert.deepEqual([file.type, file.size, file.mode, file.permissions, file.owner, file.group], [FileType.FILE, 4, 0o600, '-rw-------', 'user', 'user'])
  assert.ok(Math.abs(Date.now() - file.modifiedTime) < 60_000)
  assert.equal(link.symlinkTarget, '/home/user/d/e/f')
  const moved = await sandbox.files.rename('d/e/f', 'g/h')
  assert.equal(moved.path, '/home/user/g/h')
  assert.equal(await sandbox.files.exists('d/e/f'), false)
  await sandbox.files.remove('g')
  assert.equal(await sandbox.files.exists('g/h'), false)
})

scenario('errors have their classes', async (sandbox) => {
  await assert.rejects(sandbox.files.read('missing'), NotFoundError)
  await assert.rejects(sandbox.files.getInfo('missing'), FileNotFoundError)
  await assert.rejects(sandbox.files.list('missing'), NotFoundError)
  await assert.rejects(sandbox.files.read('/tmp'), InvalidArgumentError)
  await sandbox.files.write('file', 'x')
  await assert.rejects(sandbox.files.list('file'), InvalidArgumentError)
  await assert.rejects(sandbox.files.watchDir('missing', () => {}), NotFoundError)
})

scenario('metadata', async (sandbox) => {
  const info = await sandbox.files.write('m', 'x', { metadata: { purpose: 'js' } })
  assert.deepEqual(info.metadata, { purpose: 'js' })
  assert.deepEqual((await sandbox.files.getInfo('m')).metadata, { purpose: 'js' })
})

scenario('thirty-two megabytes there and back', async (sandbox) => {
  const data = randomBytes(32 << 20)
  const digest = createHash('sha256').update(data).digest('hex')
  await sandbox.files.write('large', new Blob([data]))
  assert.equal((await sandbox.commands.run('sha256sum large')).stdout.split(' ')[0], digest)
  const back = await sandbox.files.read('large', { format: 'bytes' })
  assert.equal(createHash('sha256').update(back).digest('hex'), digest)
})

scenario('watch', async (sandbox) => {
  await sandbox.files.makeDir('w/sub')
  const events = []
  let ended = false
  const handle = await sandbox.files.watchDir('w', (event) => events.push(event), { recursive: true, includeEntry: true, onExit: () => (ended = true) })
  await sandbox.files.write('w/sub/f', 'x')
  await eventually(() => events.find((e) => e.name === 'sub/f' && e.type === FilesystemEventType.WRITE && e.entry?.size === 1))
  await sandbox.files.remove('w/sub/f')
  await eventually(() => events.find((e) => e.name === 'sub/f' && e.type === FilesystemEventType.REMOVE))
  await handle.stop()
  await eventually(() => ended)
  const before = events.length
  await sandbox.files.write('w/later', 'x')
  await sleep(300)
  assert.equal(events.length, before)
})

scenario('signed links', async (sandbox) => {
  await sandbox.files.write('report', 'for everyone')
  const headers = { 'e2b-sandbox-id': sandbox.sandboxId, 'e2b-sandbox-port': '49983' }
  const good = await fetch(await sandbox.downloadUrl('report', { useSignatureExpiration: 60 }), { headers })
  assert.deepEqual([good.status, await good.text()], [200, 'for everyone'])
  const expired = await sandbox.downloadUrl('report', { useSignatureExpiration: 1 })
  await sleep(2_100)
  assert.equal((await fetch(expired, { headers })).status, 401)
  const form = new FormData()
  form.append('file', new Blob(['by link']), 'x')
  const upload = await fetch(await sandbox.uploadUrl('inbox'), { method: 'POST', headers, body: form })
  assert.equal(upload.status, 200)
  assert.equal(await sandbox.files.read('inbox'), 'by link')
})

scenario('a link works by itself', async (sandbox) => {
  await sandbox.files.write('whole', 'nothing else needed')
  const link = await sandbox.downloadUrl('whole')
  const down = await fetch(link)
  assert.deepEqual([down.status, await down.text()], [200, 'nothing else needed'])
  const form = new FormData()
  form.append('file', new Blob(['by link']), 'x')
  assert.equal((await fetch(await sandbox.uploadUrl('sent'), { method: 'POST', body: form })).status, 200)
  assert.equal(await sandbox.files.read('sent'), 'by link')
})

scenario('a refused upload says why', async (sandbox) => {
  const link = (await sandbox.uploadUrl('whole')).replace('path=whole', 'path=other')
  for (let i = 0; i < 50; i++) {
    const form = new FormData()
    form.append('file', new Blob(['x'.repeat(1_000)]), 'x')
    // The head of such a request goes out before its body: an early answer must not cut it off.
    const answer = await fetch(link, { method: 'POST', body: form })
    assert.equal(answer.status, 401)
    assert.match((await answer.json()).message, /invalid signature/)
  }
})

scenario('git', async (sandbox) => {
  await sandbox.git.init('work', { initialBranch: 'main' })
  await sandbox.git.configureUser('A', 'a@example.test')
  await sandbox.files.write('work/a', '1')
  await sandbox.git.add('work')
  await sandbox.git.commit('work', 'first')
  const status = await sandbox.git.status('work')
  assert.deepEqual([status.currentBranch, status.isClean], ['main', true])
}, { skip: !onBase })

scenario('a web server inside', async (sandbox) => {
  await sandbox.files.write('www/index.html', 'from inside')
  await sandbox.commands.run('cd www && exec python3 -m http.server 8000', { background: true, timeoutMs: 0 })
  const host = sandbox.getHost(8000)
  const answer = await eventually(async () => {
    const got = await fetchHost(host, '/index.html')
    return got.status === 200 && got
  })
  assert.equal(answer.body, 'from inside')
  const closed = await fetchHost(sandbox.getHost(9999))
  assert.equal(closed.status, 502)
  assert.equal(JSON.parse(closed.body).message, 'The sandbox is running but port is not open')
})
