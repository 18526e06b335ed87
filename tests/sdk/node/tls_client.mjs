// The same user in JavaScript; see tls_client.py.
import assert from 'node:assert/strict'
import { Sandbox } from 'e2b'

const sandbox = await Sandbox.create(process.argv[2], { timeoutMs: 120_000 })
assert.equal((await sandbox.commands.run('echo over tls')).stdout, 'over tls\n')
await sandbox.files.write('a.txt', 'x'.repeat(1_000_000))
assert.equal((await sandbox.files.read('a.txt')).length, 1_000_000)
const outputs = await Promise.all(Array.from({ length: 30 }, (_, n) => sandbox.commands.run(`sleep 0.2; echo ${n}`)))
assert.deepEqual(outputs.map((o) => o.stdout), outputs.map((_, n) => `${n}\n`))
const link = await sandbox.downloadUrl('a.txt')
assert.equal((await (await fetch(link)).text()).length, 1_000_000)
assert.equal(await sandbox.kill(), true)
console.log('done')
