import assert from 'node:assert'
import test from 'node:test'

import { page } from './server.mjs'

test('the front page is there, others are not', () => {
  assert.equal(page('/')[0], 200)
  assert.equal(page('/nothing')[0], 404)
})
