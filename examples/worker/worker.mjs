export default {
  fetch(request, env) {
    const { pathname } = new URL(request.url)
    if (pathname === '/health') return new Response('ok\n')
    if (pathname === '/') return new Response(`${env.GREETING}\n`)
    return new Response('not found\n', { status: 404 })
  },
}
