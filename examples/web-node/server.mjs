import { pathToFileURL } from 'node:url'

import express from 'express'

export const app = express()
app.get('/health', (request, response) => response.type('text').send('ok\n'))
app.get('/', (request, response) => response.type('text').send('hello from node\n'))

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  app.listen(8000, '127.0.0.1', () => console.log('listening on 8000'))
}
