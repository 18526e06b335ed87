function same(found, wanted) {
  if (found !== wanted) throw new Error(`${found} instead of ${wanted}`)
}

export const frontPage = {
  async test(_, env) {
    const answer = await env.WORKER.fetch('http://worker/')
    same(answer.status, 200)
    same(await answer.text(), 'hello from a worker\n')
  },
}

export const others = {
  async test(_, env) {
    same((await env.WORKER.fetch('http://worker/nothing')).status, 404)
  },
}
