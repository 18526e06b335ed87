import assert from 'node:assert'
import test from 'node:test'

import { app } from './server.mjs'

test('the front page is there, others are not', async () => {
  const server = app.listen(0, '127.0.0.1')
  await new Promise((listening) => server.once('listening', listening))
  const { port } = server.address()
  assert.equal((await fetch(`http://127.0.0.1:${port}/`)).status, 200)
  assert.equal((await fetch(`http://127.0.0.1:${port}/nothing`)).status, 404)
  server.close()
})
