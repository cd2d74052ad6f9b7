/** What the echo agent finds in a stream, and what it says: pure. */
import fc from 'fast-check'
import { answerTo, wordsOf } from '../../src/dev/echo/answer.js'
import { nextRun, unanswered } from '../../src/dev/echo/rows.js'
import { parseEvents } from '../../src/dev/echo/wake.js'

const at = (n: number): string => `0000000000000000_${String(n).padStart(16, '0')}`
const event = (n: number, type: string, key: string, value?: object, headers: object = { operation: 'insert' }) => ({
  type,
  key,
  ...(value === undefined ? {} : { value }),
  headers: { ...headers, offset: at(n) },
})
const viewOf = (items: readonly unknown[], from = at(0)) => ({ events: parseEvents(JSON.stringify(items)), from })
const keysOf = (items: readonly unknown[], from?: string) => unanswered(viewOf(items, from)).map(({ key }) => key)
const message = (n: number, key: string, more: object = {}) => event(n, 'inbox', key, { payload: key, status: 'processed', ...more })

describe('the words of an answer', () => {
  it('are the text, in few pieces', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 3_000 }), (text) => {
        const deltas = wordsOf(`You said: ${text}`)

        expect(deltas.join('')).toBe(`You said: ${text}`)
        expect(deltas.length).toBeLessThanOrEqual(40)
      }),
    )
  })

  it('of a text without end have one', () => {
    for (const long of ['😀'.repeat(100_000), 'a '.repeat(50_000), ' '.repeat(100_000), 'a'.repeat(1_000_000)]) {
      const said = wordsOf(`You said: ${long}`).join('')
      expect([...said]).toHaveLength(4_000)
      expect(said.endsWith('…')).toBe(true)
    }
  })

  it('are written under keys that tell them from other answers', () => {
    const { beginning, deltas, ending } = answerTo({ key: 'm', text: 'hi', isQueued: true, freshAt: undefined }, '/echo/a', 7, 0)

    expect([...beginning, ...deltas, ...ending('aborted')].map(({ type, key }) => `${type} ${key}`)).toEqual([
      'inbox m',
      'run run-7',
      'text msg-7',
      'text_delta msg-7:0',
      'text_delta msg-7:1',
      'text_delta msg-7:2',
      'text msg-7',
      'run run-7',
    ])
  })
})

describe('the messages that wait for an answer', () => {
  it('are the fresh ones, in their order', () => {
    expect(keysOf([message(1, 'old'), message(2, 'b'), message(3, 'a')], at(2))).toEqual(['b', 'a'])
  })

  it('are not those that a completed run names', () => {
    const run = (n: number, key: string, status: string, headers: object) => event(n, 'run', key, { status }, headers)
    const lost = [run(2, 'run-0', 'started', { operation: 'insert', answers: 'm' }), run(3, 'run-0', 'failed', { operation: 'update' })]
    const good = [run(4, 'run-1', 'started', { operation: 'insert', answers: 'm' }), run(5, 'run-1', 'completed', { operation: 'update' })]

    expect(keysOf([message(1, 'm'), ...lost])).toEqual(['m'])
    expect(keysOf([message(1, 'm'), ...lost, ...good])).toEqual([])
  })

  it('are answered once more when they were edited, or sent again under their key, after their answer', () => {
    const answered = [
      message(1, 'm'),
      event(2, 'run', 'run-0', { status: 'started' }, { operation: 'insert', answers: 'm' }),
      event(3, 'run', 'run-0', { status: 'completed' }, { operation: 'update' }),
    ]

    expect(keysOf([...answered, event(4, 'inbox', 'm', { payload: 'edited' }, { operation: 'update' })], at(4))).toEqual(['m'])
    expect(keysOf([...answered, message(4, 'm')], at(4))).toEqual(['m'])
    expect(keysOf([...answered, event(4, 'inbox', 'm', { position: 'a' }, { operation: 'update' })], at(4))).toEqual([])
  })

  it('are not those that were cancelled, deleted, or copied by a fork', () => {
    const cancelled = event(2, 'inbox', 'c', { status: 'cancelled' }, { operation: 'update' })
    const deleted = event(4, 'inbox', 'd', undefined, { operation: 'delete' })
    const copied = event(6, 'entity_created', 'entity-created', {}, { operation: 'update', forkedFrom: '/echo/x' })

    expect(keysOf([message(1, 'c'), cancelled, message(3, 'd'), deleted, message(5, 'f'), copied, message(7, 'new')])).toEqual(['new'])
  })

  it('come from the queue by position, up to one that is held back', () => {
    const queued = (n: number, key: string, position: string, mode = 'queued') => message(n, key, { status: 'pending', mode, position })

    expect(keysOf([queued(1, 'second', 'b'), queued(2, 'first', 'a'), queued(3, 'held', 'c', 'paused'), queued(4, 'behind', 'd')])).toEqual(
      ['first', 'second'],
    )
  })

  it('survive whatever else is in the stream', () => {
    const odd = [
      null,
      1,
      'x',
      [],
      {},
      { type: 1 },
      { type: 'inbox', key: 'k' },
      { type: 'inbox', key: 'k', value: 1, headers: { offset: at(1) } },
    ]

    expect(keysOf([...odd, message(2, 'm')])).toEqual(['m'])
  })

  it('get a run of a number that nobody has used', () => {
    expect(nextRun(viewOf([]))).toBe(0)
    expect(
      nextRun(viewOf([event(1, 'run', 'run-4', { status: 'started' }), event(2, 'run', 'run-x', {}), event(3, 'run', 'run-2', {})])),
    ).toBe(5)
  })
})
