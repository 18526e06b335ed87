addEventListener('fetch', (event) => {
  const { pathname, searchParams } = new URL(event.request.url)
  if (pathname === '/health') return event.respondWith(new Response('ok\n'))
  if (pathname !== '/') return event.respondWith(new Response('not found\n', { status: 404 }))
  event.respondWith(new Response(`hello ${searchParams.get('name') ?? 'from the edge'}\n`))
})
