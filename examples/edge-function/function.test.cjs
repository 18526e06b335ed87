const assert = require('node:assert')
const { readFileSync } = require('node:fs')
const test = require('node:test')

const { EdgeRuntime } = require('/opt/edge-runtime/node_modules/edge-runtime')

const runtime = new EdgeRuntime({ initialCode: readFileSync(`${__dirname}/function.js`, 'utf8') })
const ask = (path) => runtime.dispatchFetch(`http://edge${path}`)

test('it greets whoever asks', async () => {
  assert.equal(await (await ask('/')).text(), 'hello from the edge\n')
  assert.equal(await (await ask('/?name=you')).text(), 'hello you\n')
  assert.equal((await ask('/nothing')).status, 404)
})

test('it has nothing of the machine', () => {
  assert.equal(runtime.evaluate('typeof process + typeof require'), 'undefinedundefined')
})
