import { createServer } from 'node:http'
import { pathToFileURL } from 'node:url'

export function page(path) {
  if (path === '/health') return [200, 'ok\n']
  if (path === '/') return [200, 'hello from node\n']
  return [404, 'not found\n']
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  createServer((request, response) => {
    const [status, text] = page(request.url)
    response.writeHead(status, { 'content-type': 'text/plain' }).end(text)
  }).listen(8000, () => console.log('listening on 8000'))
}
