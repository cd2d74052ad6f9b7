import { Writable } from 'node:stream'
import { pino } from 'pino'
import { redaction } from '../../src/log.js'
import { expectStatus, Wire } from '../support/wire.js'

describe('the log (spec/13 §8)', () => {
  it('of a busy server holds no payload, token or password, at any level', async () => {
    const wire = await Wire.start({ env: { ELECTRIC_AGENTS_LOG_LEVEL: 'trace' } })
    try {
      const secrets = { authorization: 'Bearer sesame-bearer', 'electric-claim-token': 'sesame-claim' }
      const initialMessage = 'sesame-message'
      expectStatus(
        201,
        await wire.ask('PUT', '/_electric/entities/chat/a', { initialMessage, args: { key: 'sesame-argument' } }, { headers: secrets }),
      )
      expectStatus(200, await wire.send('/chat/a', { payload: 'sesame-payload' }))
      await wire.ask('POST', '/chat/a/main', '[{"type":"sesame-event"}]', { headers: secrets })
      await wire.send('/chat/a', '{"payload":"sesame-broken')
      await wire.ask('POST', '/plain', 'sesame-bytes', { headers: { 'content-type': 'nonsense' } })
      await wire.sql('ALTER TABLE entities RENAME COLUMN tags_index TO elsewhere') // a failure that nobody expects
      expect((await wire.spawn('/chat/b', { tags: { secret: 'sesame-tag' } })).status).toBeGreaterThanOrEqual(500)
      await wire.sql('ALTER TABLE entities RENAME COLUMN elsewhere TO tags_index')

      const logs = await wire.house.logs()
      expect(logs.length).toBeGreaterThan(0)
      expect(logs.match(/sesame-\w+/g)).toBeNull()
      expect(logs).not.toContain(new URL(wire.house.databaseUrl).password || 'no password')
    } finally {
      await wire.stop()
    }
  })

  it('hides what a library might put into an error', async () => {
    let written = ''
    const sink = new Writable({
      write(chunk, _encoding, done) {
        written += String(chunk)
        done()
      },
    })
    const log = pino({ redact: redaction }, sink)

    log.warn(
      { err: Object.assign(new Error('x'), { headers: { authorization: 'sesame' }, config: { password: 'sesame' } }), payload: 'sesame' },
      'failed',
    )

    expect(written).toContain('[redacted]')
    expect(written).not.toContain('sesame')
  })
})
