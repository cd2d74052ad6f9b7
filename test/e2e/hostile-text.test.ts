import { expectStatus, Wire } from '../support/wire.js'

let wire: Wire
beforeAll(async () => {
  wire = await Wire.start()
})
afterAll(async () => await wire.stop())

const nasty = ['\0', 'a\0b', '\ud800', '\udc00x', 'x\ud83d'] as const

describe('text that Postgres cannot hold', () => {
  it.each(nasty)('in arguments and tags is refused, and leaves nothing: %j', async (text) => {
    const before = await wire.counts()

    for (const body of [{ args: { text } }, { args: { [text]: 1 } }, { tags: { text } }, { tags: { [text]: 'x' } }])
      expect((await wire.spawn('/chat/nasty', body)).status).toBe(400)
    expect(await wire.counts()).toEqual(before)
  })

  it.each(nasty)('in messages and signals is an event like any other: %j', async (text) => {
    const url = `/chat/nasty-${nasty.indexOf(text)}`
    await wire.spawned(url, { initialMessage: { [text]: text } })

    expectStatus(200, await wire.send(url, { payload: { text }, key: text, position: text }))
    expectStatus(200, await wire.signal(url, { signal: 'SIGUSR', payload: text, reason: text }))
    expectStatus(200, await wire.signal(url, { signal: 'SIGKILL', payload: { [text]: text }, reason: text }))

    const [, first, sent, noticed, killed] = await wire.events(url)
    expect(first?.value?.payload).toEqual({ [text]: text })
    expect(sent).toMatchObject({ key: text, value: { payload: { text }, position: text } })
    expect(noticed?.value).toMatchObject({ payload: text, reason: text })
    expect(killed?.value).toMatchObject({ payload: { [text]: text }, reason: text })
  })
})

describe('members called like JavaScript’s own', () => {
  const tricky = '{"__proto__":"p","constructor":"c","toString":"t","hasOwnProperty":"h"}'
  const keys = ['__proto__', 'constructor', 'hasOwnProperty', 'toString']

  it('are arguments, tags and payloads like any other (DEVIATE: __proto__ is not lost)', async () => {
    const answer = expectStatus(201, await wire.spawn('/chat/tricky', `{"args":${tricky},"tags":${tricky},"initialMessage":${tricky}}`))
    const shown = (text: string, member: string) => Object.keys((JSON.parse(text) as Record<string, object>)[member] ?? {}).sort()

    for (const text of [answer.text, (await wire.get('/chat/tricky')).text])
      expect([shown(text, 'tags'), shown(text, 'spawn_args')]).toEqual([keys, keys])
    const [created, message] = await wire.events('/chat/tricky')
    expect(Object.keys(created?.value?.args as object).sort()).toEqual(keys)
    expect(Object.keys(message?.value?.payload as object).sort()).toEqual(keys)
  })

  it('are payloads of sends and signals, and pollute nothing', async () => {
    await wire.spawned('/chat/tricky-sends')

    expectStatus(200, await wire.send('/chat/tricky-sends', `{"payload":${tricky},"__proto__":{"mode":"queued"}}`))
    expectStatus(200, await wire.signal('/chat/tricky-sends', `{"signal":"SIGINT","payload":${tricky},"__proto__":{"reason":"r"}}`))

    const [, sent, signalled] = await wire.events('/chat/tricky-sends')
    expect(Object.keys(sent?.value?.payload as object).sort()).toEqual(keys)
    expect(sent?.value?.mode).toBe('immediate')
    expect(Object.keys(signalled?.value?.payload as object).sort()).toEqual(keys)
    expect(signalled?.value).not.toHaveProperty('reason')
  })
})
