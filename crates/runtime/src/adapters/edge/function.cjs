// Asks the function in the file argv[2] for the path argv[3] once, in an edge runtime, and prints the answer.
// A module becomes a script here: the runtime's virtual machine knows no modules.
'use strict'
const { readFileSync } = require('node:fs')
const { EdgeRuntime } = require('/opt/edge-runtime/node_modules/edge-runtime')

const source = readFileSync(process.argv[2], 'utf8')
if (/^\s*import[\s{*]/m.test(source)) {
  console.error('soulbox: a function must be one file without imports: bundle it first')
  process.exit(78)
}
const script = source
  .replace(/(^|;)(\s*)export\s+default\s+(async\s+)?function\s*(\w*)/m, '$1$2globalThis.__handler = $3function $4')
  .replace(/(^|;)(\s*)export\s+default\s+/m, '$1$2globalThis.__handler = ')
  .replace(/(^|;)(\s*)export\s+(?=(async\s+)?(const|let|var|function|class)\b)/gm, '$1$2')

const runtime = new EdgeRuntime({ initialCode: script })
runtime.evaluate(`if (globalThis.__handler) addEventListener('fetch', (event) =>
  event.respondWith(Promise.resolve(globalThis.__handler(event.request, event))))`)
runtime.dispatchFetch(`http://127.0.0.1${process.argv[3]}`).then(async (response) => {
  process.stdout.write(Buffer.from(await response.arrayBuffer()))
  await response.waitUntil()
  process.exit(response.status < 400 ? 0 : 22)
}).catch((error) => {
  console.error(error)
  process.exit(1)
})
