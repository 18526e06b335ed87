#!/usr/bin/env node
// Loads a page in headless Chromium, says what its scripts say, and ends when it is loaded.
//
//   soulbox-page [--dom FILE] [--screenshot FILE] [--size 1280x720] [--until EXPRESSION] PAGE
//
// PAGE is an address, or a file that is served on loopback with its directory; one that ends in .js or .mjs is
// run as a module in an empty page. The browser is driven through two pipes: it listens nowhere.
//
// Exit codes: 0; 1 after an exception, or when the page does not load; 2 for a bad command line; 137 when the
// page or the browser was killed.
import { execFileSync, spawn } from 'node:child_process'
import {
  createReadStream, existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, statSync, writeFileSync,
} from 'node:fs'
import { createServer } from 'node:http'
import { homedir, tmpdir } from 'node:os'
import { basename, dirname, extname, join, normalize } from 'node:path'
import { parseArgs } from 'node:util'

const PROGRAM = '/usr/bin/chromium-headless-shell'
const FLAGS = [
  '--remote-debugging-pipe',
  // Chromium's own sandbox needs user namespaces, which a sandbox does not hand out: it is the sandbox.
  '--no-sandbox',
  '--disable-background-networking',
  '--disable-breakpad',
  '--disable-component-update',
  '--disable-default-apps',
  '--disable-gpu',
  '--disable-sync',
  '--force-color-profile=srgb',
  '--hide-scrollbars',
  '--mute-audio',
  '--no-first-run',
]
/** Quiet for so long: everything that the page asked for is there. In milliseconds, as all of these. */
const QUIET = 100
/** A page that never gets quiet is taken as it is. */
const RESTLESS = 5000
const POLL = 50
const MAX_SIDE = 8192
/** What the sandbox trusts beside the authorities of its template; the first where its root is read-only. */
const ADDED = ['/run/soulbox/added-ca.pem', '/etc/ssl/added-ca.pem']
const TYPES = {
  '.css': 'text/css', '.gif': 'image/gif', '.htm': 'text/html', '.html': 'text/html', '.jpg': 'image/jpeg',
  '.js': 'text/javascript', '.json': 'application/json', '.mjs': 'text/javascript', '.png': 'image/png',
  '.svg': 'image/svg+xml', '.txt': 'text/plain', '.wasm': 'application/wasm', '.webp': 'image/webp',
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

class Fault extends Error {
  constructor(code, message) {
    super(message)
    this.code = code
  }
}

/**
 * Chromium reads no bundle: beside its own list it trusts what the database of its user has. With a home in the
 * profile that goes with it.
 */
function trusting(profile) {
  const added = ADDED.find(existsSync)
  const certificates = added ? readFileSync(added, 'utf8').match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) : null
  if (!certificates) return {}
  const database = join(profile, '.pki/nssdb')
  mkdirSync(database, { recursive: true })
  const certutil = (input, ...words) => {
    try {
      execFileSync('certutil', ['-d', `sql:${database}`, ...words], { input, stdio: ['pipe', 'ignore', 'pipe'] })
    } catch (error) {
      throw new Fault(1, `${added} cannot be handed to the browser: ${error.stderr || error.message}`)
    }
  }
  certutil('', '-N', '--empty-password')
  certificates.forEach((certificate, at) => certutil(certificate, '-A', '-a', '-t', 'C,,', '-n', `added-${at}`))
  return { HOME: profile, XDG_CACHE_HOME: process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache') }
}

/** Chromium, and what it is told and says: JSON with NUL behind each message. */
class Browser {
  #next = 1
  #waiting = new Map()
  #rest = []
  #handlers = new Map()

  constructor(profile) {
    const env = { ...process.env, ...trusting(profile), DBUS_SESSION_BUS_ADDRESS: 'disabled:' }
    // A group of its own: Ctrl-C is ours to handle.
    const stdio = ['ignore', 'ignore', 'pipe', 'pipe', 'pipe']
    this.process = spawn(PROGRAM, [...FLAGS, `--user-data-dir=${profile}`], { stdio, env, detached: true })
    this.said = ''
    this.process.stderr.on('data', (text) => { this.said = (this.said + text).slice(-2000) })
    this.gone = new Promise((_, reject) => {
      this.process.on('error', (error) => reject(new Fault(1, `${PROGRAM}: ${error.message}`)))
      this.process.on('exit', (code, signal) => {
        reject(new Fault(signal ? 137 : 1, `the browser ended with ${signal ?? code}\n${this.said}`))
      })
    })
    this.gone.catch(() => {})
    this.process.stdio[3].on('error', () => {})
    this.process.stdio[4].on('data', (chunk) => this.#read(chunk))
  }

  on(method, handler) {
    this.#handlers.set(method, handler)
  }

  ask(method, params = {}, sessionId = this.session) {
    const id = this.#next++
    this.process.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`)
    const answer = new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }))
    return Promise.race([answer, this.gone])
  }

  #read(chunk) {
    let from = 0
    for (let at; (at = chunk.indexOf(0, from)) >= 0; from = at + 1) {
      this.#rest.push(chunk.subarray(from, at))
      const message = JSON.parse(Buffer.concat(this.#rest).toString())
      this.#rest = []
      this.#take(message)
    }
    if (from < chunk.length) this.#rest.push(chunk.subarray(from))
  }

  #take({ id, method, params, result, error }) {
    if (id === undefined) return this.#handlers.get(method)?.(params)
    const waiting = this.#waiting.get(id)
    this.#waiting.delete(id)
    if (error) waiting?.reject(new Fault(1, error.message))
    else waiting?.resolve(result)
  }

  end() {
    // With everything that it started.
    try {
      process.kill(-this.process.pid, 'SIGKILL')
    } catch {
      // It ended before.
    }
  }
}

/** A value of the page in the words of a console. */
function shown(value) {
  if (value.unserializableValue) return value.unserializableValue
  if ('value' in value) return typeof value.value === 'string' ? value.value : JSON.stringify(value.value)
  if (value.preview && value.subtype !== 'error') return previewed(value.preview)
  return value.description ?? value.type
}

function previewed({ type, subtype, description, properties = [], entries, overflow }) {
  if (type !== 'object' || ['date', 'regexp', 'node', 'promise', 'error'].includes(subtype)) return description
  const inner = ({ type, subtype, value, valuePreview }) =>
    type === 'string' ? JSON.stringify(value) : subtype && valuePreview ? previewed(valuePreview) : value
  const pair = ({ key, value }) => (key ? `${entry(key)} => ${entry(value)}` : entry(value))
  const entry = (side) => (side.type === 'string' ? JSON.stringify(side.description) : side.description)
  const list = subtype === 'array' || subtype === 'typedarray'
  const parts = entries
    ? entries.map(pair)
    : properties.map((property) => (list ? inner(property) : `${property.name}: ${inner(property)}`))
  if (overflow) parts.push('…')
  const name = description && description !== 'Object' && !list ? `${description} ` : ''
  return list ? `[${parts.join(', ')}]` : `${name}{${parts.join(', ')}}`
}

/** Exceptions that nobody caught, those apart that were caught after all. */
class Console {
  failed = new Set()

  constructor(browser) {
    browser.on('Runtime.consoleAPICalled', ({ type, args }) => {
      if (type === 'clear' || type === 'endGroup') return
      const stream = ['error', 'warning', 'assert', 'trace'].includes(type) ? process.stderr : process.stdout
      stream.write(`${args.map(shown).join(' ')}\n`)
    })
    browser.on('Runtime.exceptionThrown', ({ exceptionDetails }) => this.fail(exceptionDetails))
    browser.on('Runtime.exceptionRevoked', ({ exceptionId }) => this.failed.delete(exceptionId))
    browser.on('Log.entryAdded', ({ entry }) => {
      if (entry.level === 'error') process.stderr.write(`${entry.text} ${entry.url ?? ''}\n`)
    })
  }

  fail({ exceptionId, text, exception }) {
    this.failed.add(exceptionId)
    process.stderr.write(`${exception ? `Uncaught ${shown(exception)}` : text}\n`)
  }
}

/** Whether the page waits for something that it asked for. */
class Traffic {
  #open = new Set()
  #last = Date.now()

  constructor(browser, frame) {
    browser.on('Network.requestWillBeSent', ({ requestId }) => {
      this.#open.add(requestId)
      this.#last = Date.now()
    })
    const ended = ({ requestId }) => {
      this.#open.delete(requestId)
      this.#last = Date.now()
    }
    browser.on('Network.loadingFinished', ended)
    browser.on('Network.loadingFailed', ended)
    browser.on('Network.dataReceived', () => { this.#last = Date.now() })
    // What nobody reads never ends: from here on it counts by what still arrives.
    browser.on('Network.responseReceived', ({ requestId, type, frameId, response }) => {
      ended({ requestId })
      if (type === 'Document' && frameId === frame) this.status = response.status
    })
  }

  async quiet() {
    const began = Date.now()
    while (this.#open.size > 0 || Date.now() - this.#last < QUIET) {
      if (Date.now() - began > RESTLESS) return
      await sleep(20)
    }
  }
}

function isFile(path) {
  try {
    return statSync(path).isFile()
  } catch {
    return false
  }
}

/** The path that a request names; nothing for one that is none, since pages may ask for anything. */
function asked(request) {
  try {
    const path = decodeURIComponent(new URL(request.url, 'http://localhost').pathname)
    return path.includes('\0') ? undefined : path
  } catch {
    return undefined
  }
}

/** Serves the files of `root` on loopback. */
async function serve(root) {
  const server = createServer((request, response) => {
    const path = asked(request)
    if (path === undefined) return response.writeHead(400).end('no path\n')
    const file = join(root, normalize(`/${path}`))
    if (path === '/favicon.ico' && !existsSync(file)) return response.writeHead(204).end()
    if (!isFile(file)) return response.writeHead(404).end('not found\n')
    const type = TYPES[extname(file).toLowerCase()] ?? 'application/octet-stream'
    response.writeHead(200, { 'content-type': type, 'cache-control': 'no-store' })
    createReadStream(file).on('error', () => response.destroy()).pipe(response)
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  server.unref()
  return `http://localhost:${server.address().port}`
}

/** An empty page, in which a script is run. */
async function blank(origin) {
  const page = join(origin.root, `.soulbox-${process.pid}.html`)
  writeFileSync(page, '<!doctype html><meta charset="utf-8"><title>script</title><body></body>\n')
  process.on('exit', () => rmSync(page, { force: true }))
  return `${origin.url}/${basename(page)}`
}

function commandLine() {
  const text = { type: 'string' }
  const options = { dom: text, screenshot: text, size: { ...text, default: '1280x720' }, until: text }
  let parsed
  try {
    parsed = parseArgs({ options, allowPositionals: true })
  } catch (error) {
    throw new Fault(2, error.message)
  }
  const [width, height] = /^\d{1,4}x\d{1,4}$/.test(parsed.values.size) ? parsed.values.size.split('x').map(Number) : []
  const fits = (side) => side >= 1 && side <= MAX_SIDE
  if (!fits(width) || !fits(height)) throw new Fault(2, `--size ${parsed.values.size}: two numbers up to ${MAX_SIDE}, as 1280x720`)
  if (parsed.positionals.length !== 1) throw new Fault(2, 'name one page: a file, or an address')
  return { ...parsed.values, page: parsed.positionals[0], width, height }
}

/** Where the page is, and the script that is run in it. */
async function place(page) {
  if (/^https?:\/\//.test(page)) return { url: page }
  if (!isFile(page)) throw new Fault(1, `${page}: no such file`)
  const file = realpathSync(page)
  const origin = { root: dirname(file), url: await serve(dirname(file)) }
  const name = encodeURIComponent(basename(file))
  if (!['.js', '.mjs'].includes(extname(file))) return { url: `${origin.url}/${name}` }
  return { url: await blank(origin), script: `/${name}` }
}

async function load(browser, options, said) {
  const { url, script } = await place(options.page)
  const { targetId } = await browser.ask('Target.createTarget', { url: 'about:blank' })
  const { sessionId } = await browser.ask('Target.attachToTarget', { targetId, flatten: true })
  browser.session = sessionId
  const crashed = new Promise((_, reject) => {
    browser.on('Inspector.targetCrashed', () => reject(new Fault(137, 'the page crashed')))
    browser.on('Target.detachedFromTarget', () => reject(new Fault(1, 'the page closed itself')))
  })
  crashed.catch(() => {})
  const ask = (method, params) => Promise.race([browser.ask(method, params), crashed])
  const traffic = new Traffic(browser, targetId)
  const loaded = new Promise((resolve) => browser.on('Page.loadEventFired', resolve))
  // A dialog would stop the page for ever.
  browser.on('Page.javascriptDialogOpening', ({ message }) => {
    process.stdout.write(`${message}\n`)
    browser.ask('Page.handleJavaScriptDialog', { accept: true }).catch(() => {})
  })
  for (const domain of ['Inspector', 'Page', 'Runtime', 'Network', 'Log']) await ask(`${domain}.enable`)
  const { width, height } = options
  await ask('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: false })

  const { errorText } = await ask('Page.navigate', { url })
  if (errorText) throw new Fault(1, `${options.page}: ${errorText}`)
  await Promise.race([loaded, crashed, browser.gone])
  if (traffic.status >= 400) throw new Fault(1, `${options.page}: the answer was ${traffic.status}`)
  if (script) {
    const expression = `import(${JSON.stringify(script)}).then(() => {})`
    const { exceptionDetails } = await ask('Runtime.evaluate', { expression, awaitPromise: true })
    if (exceptionDetails) said.fail(exceptionDetails)
  }
  await Promise.race([traffic.quiet(), crashed, browser.gone])
  while (options.until) {
    const { result } = await ask('Runtime.evaluate', { expression: `!!(${options.until})`, returnByValue: true })
    if (result.className === 'SyntaxError') throw new Fault(2, `--until ${options.until}: ${result.description}`)
    if (result.value === true) break
    await sleep(POLL)
  }
  if (options.dom) {
    const { root } = await ask('DOM.getDocument', { depth: 0 })
    const { outerHTML } = await ask('DOM.getOuterHTML', { nodeId: root.nodeId })
    if (options.dom === '-') process.stdout.write(`${outerHTML}\n`)
    else writeFileSync(options.dom, outerHTML)
  }
  if (options.screenshot) {
    const { data } = await ask('Page.captureScreenshot', { format: 'png' })
    writeFileSync(options.screenshot, Buffer.from(data, 'base64'))
  }
}

async function main() {
  const options = commandLine()
  const profile = mkdtempSync(join(tmpdir(), 'soulbox-page-'))
  const browser = new Browser(profile)
  process.on('exit', () => {
    browser.end()
    rmSync(profile, { recursive: true, force: true, maxRetries: 3 })
  })
  for (const [signal, number] of [['SIGINT', 2], ['SIGTERM', 15]]) process.on(signal, () => process.exit(128 + number))
  const said = new Console(browser)
  await load(browser, options, said)
  return said.failed.size > 0 ? 1 : 0
}

main().then((code) => process.exit(code), (error) => {
  process.stderr.write(`soulbox: ${error instanceof Fault ? error.message : error.stack}\n`)
  process.exit(error instanceof Fault ? error.code : 1)
})
