import { page } from './page.ts'

Bun.serve({ port: 8000, fetch: (request) => page(new URL(request.url).pathname) })
console.log('listening on 8000')
