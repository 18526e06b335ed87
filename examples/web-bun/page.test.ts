import { expect, test } from 'bun:test'

import { page } from './page.ts'

test('the front page is there, others are not', () => {
  expect(page('/').status).toBe(200)
  expect(page('/nothing').status).toBe(404)
})
