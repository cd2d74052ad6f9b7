import { offsetOf } from '../../src/domain/ids.js'
import { projectionChanges } from '../../src/domain/projection.js'

const entry = offsetOf(7)
const changes = (...items: readonly unknown[]) => projectionChanges(items.map((item) => ({ entry, item })))
const row = (type: string, key: string, value: unknown, operation = 'insert') => ({ type, key, value, headers: { operation } })

describe('the projection of a main stream', () => {
  it.each(['manifest', 'child_status', 'replay_watermark'])('keeps rows of %s', (type) => {
    expect(changes(row(type, 'k', { a: 1 }))).toEqual([{ type, key: 'k', value: '{"a":1}', entry }])
  })

  it('replaces whole values, the last one wins, a delete removes (spec/01 §6.2)', () => {
    expect(changes(row('manifest', 'k', { a: 1 }), row('manifest', 'k', { b: 2 }, 'update'))).toEqual([
      { type: 'manifest', key: 'k', value: '{"b":2}', entry },
    ])
    expect(changes(row('manifest', 'k', { a: 1 }), { type: 'manifest', key: 'k', headers: { operation: 'delete' } })).toEqual([
      { type: 'manifest', key: 'k', value: null, entry },
    ])
  })

  it('keeps rows of different types under one key apart', () => {
    expect(changes(row('manifest', 'k', { a: 1 }), row('child_status', 'k', { a: 2 }))).toHaveLength(2)
  })

  it('passes over everything else', () => {
    expect(changes(null, 7, 'x', [], {}, { type: 'manifest' }, { type: 'manifest', key: 7, value: {} }, row('inbox', 'k', {}))).toEqual([])
  })

  it.each([7, 'text', null, [1], undefined])('passes over a row whose value is no object: %j (spec/04 §9)', (value) => {
    expect(changes(row('manifest', 'k', { a: 1 }), row('manifest', 'k', value, 'update'))).toMatchObject([{ value: '{"a":1}' }])
  })

  it('keeps keys that Postgres cannot hold as text of JSON', () => {
    expect(changes(row('manifest', 'a\0b', {})).map(({ key }) => key)).toEqual(['"a\\u0000b"'])
    expect(changes(row('manifest', '\ud800', {})).map(({ key }) => key)).toEqual(['"\\ud800"'])
    expect(changes(row('manifest', '__proto__', { a: 1 }))).toEqual([{ type: 'manifest', key: '__proto__', value: '{"a":1}', entry }])
  })

  it.each(['k'.repeat(5_000), '\ud83d\ude00'.repeat(2_000), '\0'.repeat(1_000), `${'k'.repeat(99)}${'\ud83d\ude00'.repeat(2_000)}`])(
    'keeps keys that are too long for its index under names of their own: %.20s…',
    (long) => {
      const [kept, other] = changes(row('manifest', long, {}), row('manifest', `${long}.`, {})).map(({ key }) => key)

      expect(Buffer.byteLength(kept ?? '')).toBeLessThanOrEqual(1_100)
      expect(kept?.isWellFormed() && !kept.includes('\0')).toBe(true)
      expect(other).not.toBe(kept)
      expect(changes(row('manifest', long, {}, 'delete'))).toEqual([{ type: 'manifest', key: kept, value: null, entry }])
    },
  )
})
