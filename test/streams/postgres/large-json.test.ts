/** JSON bodies of many megabytes are read in slices. */
import { jest } from '@jest/globals'
import fc from 'fast-check'
import type { StreamPath } from '../../../src/domain/ids.js'
import { sql } from '../../../src/registry/database.js'
import { PostgresStreams } from '../../../src/streams/postgres/store.js'
import { appendPayload, firstPayload, largeAppendPayload, largeFirstPayload } from '../../../src/streams/protocol/payload.js'
import { freshDatabase } from '../../support/postgres.js'

const contentType = 'application/json'

describe('a large body', () => {
  const event = fc.record({
    type: fc.constantFrom('inbox', 'run', 'state:notes'),
    value: fc.jsonValue(),
    headers: fc.record({ operation: fc.constantFrom('insert', 'delete'), offset: fc.string() }, { requiredKeys: ['operation'] }),
  })
  const item = fc.oneof(event, fc.jsonValue(), fc.string({ unit: 'binary' }), fc.constantFrom('"', '\\', '\\"', '],[', '}', '\u{1f600}'))
  const array = fc.tuple(
    fc.array(item),
    fc.constantFrom('', ' ', '\n\t', '\u{feff}', '\u{feff} '),
    fc.constantFrom('', ' \r\n', ']', ',', '[', 'x'),
  )

  it('means in slices what it means at once', async () => {
    await fc.assert(
      fc.asyncProperty(array, fc.integer({ min: 1, max: 60 }), async ([items, before, after], bytes) => {
        const body = Buffer.from(before + JSON.stringify(items) + after)
        expect(await largeAppendPayload(body, { bytes, objects: 3 })).toEqual(appendPayload(true, body))
      }),
      { numRuns: 1_000 },
    )
  })

  it('makes a stream in slices as it does at once', async () => {
    const spaces = ' '.repeat(2 * 1024 * 1024)
    for (const text of ['[]', `[${spaces}]`, `[1,${spaces}2]`, `[1,${spaces}`, `{"a":${spaces}1}`, `"${spaces}`])
      expect(await largeFirstPayload(Buffer.from(text))).toEqual(firstPayload(true, Buffer.from(text)))
  })

  it('is refused in slices where it is refused at once, wherever it is broken', async () => {
    const change = fc.record({
      at: fc.nat(400),
      cut: fc.nat(3),
      put: fc.constantFrom('', ',', '[', ']', '{', '}', '"', '\\', ':', '1', ' '),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(item, { minLength: 1 }), fc.array(change, { minLength: 1, maxLength: 3 }), async (items, changes) => {
        const text = changes.reduce((now, { at, cut, put }) => {
          const from = at % now.length
          return now.slice(0, from) + put + now.slice(from + cut)
        }, JSON.stringify(items))
        const body = Buffer.from(text)
        expect(await largeAppendPayload(body, { bytes: 1, objects: 1 })).toEqual(appendPayload(true, body))
      }),
      { numRuns: 2_000 },
    )
  })

  it.each([
    '[',
    '[]',
    '[ ]',
    '[] x',
    '[1',
    '[1,',
    '[1,]',
    '[,1]',
    '[1,,2]',
    '["a',
    '["a\\"]',
    '[1]]',
    '[1],[2]',
    '[{]}',
    '[1}',
    '[[1]',
    '\xff',
  ])('of %s', async (text) => {
    const body = Buffer.from(text, 'latin1')
    expect(await largeAppendPayload(body, { bytes: 1, objects: 1 })).toEqual(appendPayload(true, body))
  })
})

describe.each(['an append', 'the first entry of a stream', 'the first entry of a fork'])('%s of many megabytes', (what) => {
  it('is never parsed in one piece, and each of its events knows its offset', async () => {
    const fresh = await freshDatabase()
    const streams = new PostgresStreams({ database: fresh.database })
    const [source, path] = ['/test/source' as StreamPath, '/test/large' as StreamPath]
    await streams.create(source, { contentType })
    if (what === 'an append') await streams.create(path, { contentType })
    const body = Buffer.from(
      `[${Array.from({ length: 100_000 }, (_, n) => `{"headers":{"operation":"insert"},"value":${n},"text":"${'x'.repeat(30)}"}`)}]`,
    )
    const parse = jest.spyOn(JSON, 'parse')

    const verdict =
      what === 'an append'
        ? await streams.append(path, { contentType, body })
        : await streams.create(path, what.endsWith('fork') ? { fork: { from: source }, body } : { contentType, body })
    const longest = Math.max(...parse.mock.calls.map(([text]) => text.length))
    parse.mockRestore()
    const { rows } = await fresh.database.query(sql`SELECT convert_from(data, 'UTF8') AS text FROM stream_entries`)
    const items = JSON.parse(`[${rows[0]?.text}]`) as { headers: { offset: string } }[]
    const stored = { items: items.length, last: items.at(-1)?.headers.offset }
    const { tail } = 'head' in verdict ? verdict.head : (verdict as { readonly tail?: string })

    expect(verdict.outcome).toBe(what === 'an append' ? 'appended' : 'created')
    expect(longest).toBeLessThan(1_100_000)
    expect(stored).toEqual({ items: 100_000, last: tail })
    await streams.close()
    await fresh.drop()
  })
})
