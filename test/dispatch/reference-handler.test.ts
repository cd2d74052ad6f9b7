/** The reference handler of test/support works on a wake as spec/06 §12 says, seen by a small fake server. */
import { zeroOffset } from '../../src/domain/ids.js'
import { eventually } from '../support/eventually.js'
import { WebhookHandler } from '../support/webhook-handler.js'
import { type Heard, offset } from './fake-server.js'
import { callback, created, entity, inbox, main, row, Stage, tag, untilAborted } from './stage.js'

let stage: Stage
beforeEach(async () => {
  stage = await Stage.start()
})
afterEach(async () => await stage.stop())

describe('a wake', () => {
  it('is claimed, read, worked on, written and done, with the headers of the runtime', async () => {
    stage.server.append(main, created)
    stage.server.append(main, inbox('old'))
    const from = stage.server.append(main, inbox('new'))
    stage.work = async ({ write }) => write(row('one'), row('two'))

    await stage.delivered(from)

    expect((await stage.ended()).ending).toEqual({ kind: 'done', nextWake: false, acked: offset(40) })
    expect(stage.passes).toEqual([['new']])
    const [claim] = stage.server.callsTo(callback)
    expect(claim).toMatchObject({ headers: { authorization: 'Bearer claim-token' }, body: { epoch: 1, wakeId: 'w_chata_1' } })
    expect(claim?.headers['electric-principal']).toBeUndefined()
    expect(
      stage.written().map(({ headers, body }) => [headers['producer-id'], headers['producer-epoch'], headers['producer-seq'], body]),
    ).toEqual([['entity-/chat/a', '1', '0', [row('one'), row('two')]]])
    expect(stage.written()[0]?.headers.authorization).toBe('Bearer write-token')
    expect(stage.dones().map(({ body }) => body)).toEqual([{ epoch: 1, acks: [{ path: main, offset: offset(40) }], done: true }])
  })

  it('gives the handler every fresh message, also when something else came last', async () => {
    const from = stage.server.append(main, inbox('first'))
    stage.server.append(main, inbox('second'))
    stage.server.append(main, inbox('cancelled', { status: 'cancelled' }))
    stage.server.append(main, tag)

    await stage.delivered(`${offset(5)}~`)

    expect((await stage.ended()).ending).toMatchObject({ kind: 'done', acked: offset(40) })
    expect(from).toBe(offset(10))
    expect(stage.passes).toEqual([['first', 'second']])
  })

  it('runs no handler for events that are no work, and runs it when nothing is fresh at all', async () => {
    stage.server.append(main, created)
    const from = stage.server.append(main, tag)

    await stage.delivered(from)
    await stage.delivered(offset(30))

    expect((await stage.ended()).ending).toMatchObject({ kind: 'done', acked: offset(20) })
    expect((await stage.ended(1)).ending).toMatchObject({ kind: 'done', acked: undefined })
    expect(stage.passes).toEqual([[]])
    expect(stage.dones().map(({ body }) => body)).toContainEqual({ epoch: 1, acks: [], done: true })
  })

  it('does not take what a fork copied for new', async () => {
    stage.server.append(main, inbox('copied'))
    stage.server.append(main, { ...created, headers: { operation: 'update', forkedFrom: '/chat/b' } })
    stage.server.append(main, inbox('own'))

    await stage.delivered(offset(10))

    await stage.ended()
    expect(stage.passes).toEqual([['own']])
  })

  it('takes what comes during its handler and in its idle window, one seq after the other', async () => {
    await stage.stop()
    stage = await Stage.start({ idleMs: 1_500 }) // time for what comes
    const from = stage.server.append(main, inbox('first'))
    stage.work = async ({ write, flush, pass }) => {
      write(row(`pass ${pass}`))
      await flush()
      if (pass === 1) stage.server.append(main, inbox('second'))
    }

    await stage.delivered(from)

    expect((await stage.ended()).ending).toMatchObject({ kind: 'done', acked: offset(40) })
    expect(stage.passes).toEqual([['first'], ['second']])
    expect(stage.written().map(({ headers }) => headers['producer-seq'])).toEqual(['0', '1'])
    expect(stage.dones()).toHaveLength(1)
  })

  it('fenced as a producer goes on with a higher epoch', async () => {
    const from = stage.server.append(main, inbox('first'))
    stage.server.fence(main, 'entity-/chat/a', 7)
    stage.work = async ({ write }) => write(row('one'))

    await stage.delivered(from)

    expect((await stage.ended()).ending).toMatchObject({ kind: 'done' })
    expect(stage.written().map(({ headers }) => [headers['producer-epoch'], headers['producer-seq']])).toEqual([
      ['1', '0'],
      ['8', '0'],
    ])
  })

  it('promotes waiting messages in the order of their positions and stops at a paused one', async () => {
    const waiting = (text: string, mode: string, position: string) => inbox(text, { mode, status: 'pending', position })
    const from = stage.server.append(main, waiting('later', 'queued', '2'))
    stage.server.append(main, waiting('held', 'paused', '3'))
    stage.server.append(main, waiting('sooner', 'queued', '1'))

    await stage.delivered(from)

    expect((await stage.ended()).ending).toMatchObject({ kind: 'done' })
    expect(stage.passes).toEqual([['sooner'], ['later']])
    expect(stage.server.events(main).filter(({ headers }) => headers.operation === 'update')).toMatchObject(
      ['sooner', 'later'].map((key) => ({ type: 'inbox', key, value: { status: 'processed' }, headers: { from: entity } })),
    )
  })

  it('acknowledges the input of a handler that failed and says so on the stream', async () => {
    const from = stage.server.append(main, inbox('first'))
    stage.work = async () => {
      throw new Error('broken')
    }

    await stage.delivered(from)

    expect((await stage.ended()).ending).toMatchObject({ kind: 'done', acked: offset(20) })
    expect(stage.server.events(main).at(-1)).toMatchObject({ type: 'error', value: { error_code: 'HANDLER_FAILED', message: 'broken' } })
  })

  it.each([
    ['claim', callback, 'refused'],
    ['append', /\/main$/, 'failed'],
  ])('whose %s is refused ends without done', async (_, path, kind) => {
    const from = stage.server.append(main, inbox('first'))
    stage.work = async ({ write, flush }) => {
      write(row('one'))
      await flush()
    }
    stage.server.override(path, ({ method }) =>
      method === 'POST' ? { status: 401, body: { error: { code: 'UNAUTHORIZED' } } } : undefined,
    )

    await stage.delivered(from)

    expect((await stage.ended()).ending).toMatchObject({ kind })
    expect(stage.dones()).toEqual([])
  })

  it('whose heartbeat is refused is aborted, says so and sends no done', async () => {
    const from = stage.server.append(main, inbox('first'))
    const isHeartbeat = (heard: Heard) => JSON.stringify(heard.body) === '{"epoch":1}'
    stage.server.override(callback, (heard) => (isHeartbeat(heard) ? { status: 409, body: { error: { code: 'FENCED' } } } : undefined))
    stage.work = untilAborted

    await stage.delivered(from)

    expect((await stage.ended()).ending).toMatchObject({ kind: 'failed', reason: expect.stringContaining('HEARTBEAT_FAILED') })
    await eventually(() => stage.server.events(main).some(({ value }) => value?.error_code === 'HEARTBEAT_FAILED'))
    expect([stage.dones(), stage.handler.log.timesHandled('first')]).toEqual([[], 0])
  })

  it('that needs a sandbox which does not exist acknowledges the offset that it was sent', async () => {
    stage.server.append(main, inbox('first'))
    const bare = await WebhookHandler.start({ baseUrl: stage.server.url, handler: stage.work, sandboxProfiles: ['other'] })

    const { entity: plain } = stage.server.wake(entity, '')
    await stage.server.deliver(
      bare.url,
      stage.server.wake(entity, `${zeroOffset}~`, { entity: { ...Object(plain), sandbox: { profile: 'docker' } } }),
    )
    await bare.stop()

    expect(bare.log.runs).toMatchObject([{ passes: [], ending: { kind: 'done', acked: `${zeroOffset}~` } }])
  })

  it('that died sends nothing more, whatever its handler does', async () => {
    const from = stage.server.append(main, inbox('first'))
    const refused: string[] = []
    stage.work = async ({ signal: aborted, write, call }) => {
      await eventually(() => aborted.aborted)
      try {
        write(row('too late'))
      } catch (failure) {
        refused.push(String(failure))
      }
      await call('POST', '/_electric/entities/chat/b/send', {}).catch((failure: unknown) => refused.push(String(failure)))
    }

    await stage.delivered(from)
    await stage.begun()
    stage.handler.die()
    await eventually(() => refused.length === 2)

    expect((await stage.ended()).ending).toEqual({ kind: 'died' })
    expect([stage.written(), stage.dones(), stage.handler.log.timesHandled('first')]).toEqual([[], [], 0])
  })

  it('beats while its handler runs, with a rotated token once it was given one', async () => {
    const from = stage.server.append(main, inbox('first'))
    stage.server.override(callback, ({ headers }) =>
      headers.authorization === 'Bearer claim-token'
        ? { status: 200, body: { ok: true, writeToken: 'w', claimToken: 'fresh' } }
        : undefined,
    )
    stage.work = async () => {
      await eventually(() => stage.server.callsTo(callback).length >= 3)
    }

    await stage.delivered(from)

    await stage.ended()
    expect(stage.server.callsTo(callback).map(({ headers }) => headers.authorization)).toEqual([
      'Bearer claim-token',
      ...Array.from({ length: stage.server.callsTo(callback).length - 1 }, () => 'Bearer fresh'),
    ])
  })
})
