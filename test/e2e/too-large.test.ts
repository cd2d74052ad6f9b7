import { Wire } from '../support/wire.js'

const mebibyte = 1024 * 1024

let wire: Wire
beforeAll(async () => {
  wire = await Wire.start()
})
afterAll(async () => await wire.stop())

describe('a body beyond the limit', () => {
  it('is told so while its sender still sends: always 413, never a broken connection, and nothing changes', async () => {
    const before = await wire.counts()
    const answers = Array.from(
      { length: 10 },
      async () => (await wire.spawn('/chat/too-large', { args: { text: 'a'.repeat(11 * mebibyte) } })).status,
    )

    expect(await Promise.all(answers)).toEqual(answers.map(() => 413))
    expect(await wire.counts()).toEqual(before)
  })
})
