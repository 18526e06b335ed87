import assert from 'node:assert/strict'
import { ALL_TRAFFIC } from 'e2b'
import { scenario } from './setup.mjs'

// Of addresses that no test reaches: what is asked is who says no, and to what.
const nobody = '93.184.216.34'
const allowed = 'x.allowed.example'
const status = async (sandbox, host) => {
  const command = `curl -s -o /dev/null -w '%{http_code}' -m 20 -H 'Host: ${host}' http://${nobody}/`
  return (await sandbox.commands.run(command)).stdout
}

scenario('without internet every connection is refused', async (sandbox) => {
  assert.equal(await status(sandbox, nobody), '403')
  const said = await sandbox.commands.run(`curl -s http://${nobody}/`)
  assert.match(said.stdout, /SoulBox refused a connection of this sandbox to 93\.184\.216\.34:80/)
  await assert.rejects(sandbox.commands.run('curl -s http://www.example.com/'), (error) => error.exitCode === 6)
}, { options: { allowInternetAccess: false } })

scenario('rules by name, and their change', async (sandbox) => {
  assert.equal(await status(sandbox, 'evil.example.net'), '403')
  assert.equal(await status(sandbox, allowed), '502', 'it is dialled, and nobody has that name')
  await sandbox.updateNetwork({ denyOut: [ALL_TRAFFIC] })
  assert.equal(await status(sandbox, allowed), '403')
  await sandbox.updateNetwork({ allowOut: [allowed], denyOut: [ALL_TRAFFIC] })
  assert.equal(await status(sandbox, allowed), '502')
}, { options: { network: { allowOut: ['*.allowed.example'], denyOut: [ALL_TRAFFIC] } } })

scenario('rules are read back', async (sandbox) => {
  const { network } = await sandbox.getInfo()
  assert.deepEqual([network.allowOut, network.denyOut], [['8.8.8.0/24', 'www.example.com'], [ALL_TRAFFIC]])
  await assert.rejects(sandbox.updateNetwork({ allowOut: ['10.0.0.0/99'] }), /400/)
  await assert.rejects(sandbox.updateNetwork({ allowOut: ['www.example.com'] }), /ALL_TRAFFIC/)
}, { options: { network: { allowOut: ['8.8.8.0/24', 'www.example.com'], denyOut: [ALL_TRAFFIC] } } })
