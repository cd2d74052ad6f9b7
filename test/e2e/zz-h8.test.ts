import { Wire } from '../support/wire.js'
it('x', async () => {
  const wire = await Wire.start({ replicas: 2, streams: 'http' })
  try {
    await wire.spawned('/chat/a')
    const answers = await Promise.all(Array.from({ length: 20 }, async (_, i) => wire.ask('POST', `/_electric/entities/chat/a/tags/k${i}`, { value: 'x' }, { at: wire.house.urls[i % 2] ?? '' })))
    console.log(answers.map(({ status }) => status).join(' '))
    console.log((await wire.house.logs()).split('\n').filter((l, i, all) => all.slice(Math.max(0, i - 5), i + 1).some((x) => x.includes('stream service'))).join('\n'))
  } finally { await wire.stop() }
})
