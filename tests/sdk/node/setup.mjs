// What every scenario starts from: the unmodified package, and a sandbox that ends with its test.
import { test as nodeTest } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Sandbox } from 'e2b'

export { Sandbox, sleep }
export const template = process.env.SOULBOX_TEST_TEMPLATE ?? 'base'
export const onBase = template === 'base'

/** A sandbox that is killed when the test `t` is over. */
export async function create(t, options = {}) {
  const sandbox = await Sandbox.create(options.template ?? template, options)
  t.after(() => sandbox.kill())
  return sandbox
}

/** A test with a fresh sandbox, made with `options`; `limit` bounds it in milliseconds. */
export function scenario(name, body, { limit = 60_000, skip = false, options = {} } = {}) {
  nodeTest(name, { timeout: limit, skip }, async (t) => body(await create(t, options), t))
}

export async function eventually(check, within = 10_000) {
  const deadline = Date.now() + within
  for (;;) {
    const value = await check()
    if (value) return value
    if (Date.now() > deadline) throw new Error(`not within ${within} ms: ${check}`)
    await sleep(50)
  }
}

/** An HTTP request to a name that only the server's listener knows. */
export async function fetchHost(host, path = '/', options = {}) {
  const { request } = await import('node:http')
  const address = new URL(process.env.E2B_SANDBOX_URL)
  return new Promise((resolve, reject) => {
    const outgoing = request(
      { host: address.hostname, port: address.port, path, method: options.method ?? 'GET', headers: { host, ...options.headers } },
      (incoming) => {
        let body = ''
        incoming.setEncoding('utf8')
        incoming.on('data', (chunk) => (body += chunk))
        incoming.on('end', () => resolve({ status: incoming.statusCode, headers: incoming.headers, body }))
        incoming.on('error', reject)
      }
    )
    outgoing.on('error', reject)
    outgoing.end(options.body)
  })
}
