import fc from 'fast-check'
import { forkedSharedStateId, forkedUrl, forkSuffix, requestedUrl } from '../../../src/domain/fork/names.js'
import { type EntityUrl, entityUrl } from '../../../src/domain/ids.js'

const free = () => false
const root = '/chat/root' as EntityUrl

describe('the names of copies', () => {
  it('have one suffix of eight hexadecimal digits for each fork', () => {
    expect(forkSuffix('a')).toMatch(/^[0-9a-f]{8}$/)
    expect(forkSuffix('a')).toBe(forkSuffix('a'))
    expect(forkSuffix('a')).not.toBe(forkSuffix('b'))
  })

  it('count on where a name is taken', () => {
    const taken = new Set(['/chat/root-fork-01234567', '/chat/root-fork-01234567-1'])

    expect(forkedUrl(root, '01234567', free)).toBe('/chat/root-fork-01234567')
    expect(forkedUrl(root, '01234567', (url) => taken.has(url))).toBe('/chat/root-fork-01234567-2')
    expect(forkedSharedStateId('board', '01234567', free)).toBe('board-fork-01234567')
    expect(forkedSharedStateId('board', '01234567', (id) => id === 'board-fork-01234567')).toBe('board-fork-01234567-1')
  })

  it('are names, however long the source is called', () => {
    const ids = fc.oneof(
      fc.integer({ min: 1, max: 994 }).map((length) => 'x'.repeat(length)),
      fc.integer({ min: 300, max: 330 }).map((length) => '%20'.repeat(length)),
      fc
        .tuple(fc.constantFrom('ü', '€', '😀'), fc.nat(14))
        .map(([character, before]) => `${'x'.repeat(before)}${encodeURIComponent(character.repeat(330))}`)
        .map((long) => long.slice(0, 990).replace(/(%[CDEF]\w(%[89AB]\w)*)?(%\w?)?$/, '')),
    )
    fc.assert(
      fc.property(ids, fc.nat(3), (id, taken) => {
        const source = entityUrl('chat', id)
        if (source === null) return
        let asked = 0
        const made = forkedUrl(source, '01234567', () => asked++ < taken)

        expect(made.endsWith(`-fork-01234567${taken === 0 ? '' : `-${taken}`}`)).toBe(true)
        expect(() => decodeURIComponent(made)).not.toThrow()
        expect(made.length).toBeLessThanOrEqual(1_000)
      }),
    )
    expect(Buffer.byteLength(forkedSharedStateId('ü'.repeat(500), '01234567', free))).toBeLessThanOrEqual(1_000)
    expect(forkedSharedStateId('ü'.repeat(500), '01234567', free)).toMatch(/^ü+-fork-01234567$/)
  })

  it('keep an id that is not too long, whatever it ends in', () => {
    expect(forkedUrl('/chat/50%' as EntityUrl, '01234567', free)).toBe('/chat/50%-fork-01234567')
    expect(forkedUrl('/chat/50%2' as EntityUrl, '01234567', free)).toBe('/chat/50%2-fork-01234567')
  })

  it.each(['x', 'ü', '€', '😀', '"'])(
    'of shared states can stand in a path, encoded too, however long the source is called: %s',
    (character) => {
      for (let length = 1; Buffer.byteLength(character.repeat(length)) <= 1_000; length += 1) {
        const made = forkedSharedStateId(character.repeat(length), '01234567', free)

        expect(made.replaceAll(character, '')).toBe('-fork-01234567')
        expect(Buffer.byteLength(made)).toBeLessThanOrEqual(1_000)
        expect(`/_electric/shared-state/${encodeURIComponent(made)}`.length).toBeLessThanOrEqual(2_000)
      }
    },
  )

  it.each([
    ['', 'Fork instance_id must not be empty or contain forward slashes'],
    ['a/b', 'Fork instance_id must not be empty or contain forward slashes'],
    ['..', 'Invalid entity URL'],
    ['%2e', 'Invalid entity URL'],
    ['a*', 'Invalid entity URL'],
    ['a b', 'Invalid entity URL'],
    ['%zz', 'Invalid entity URL'],
    ['\u0000', 'Invalid entity URL'],
    ['x'.repeat(1_001), 'Invalid entity URL'],
  ])('that a caller asks for are refused where nobody could address them: %j', (id, message) => {
    expect(requestedUrl(root, id)).toMatchObject({ refusal: { status: 400, code: 'INVALID_REQUEST', message } })
  })

  it('that a caller asks for are taken as they are', () => {
    expect(requestedUrl(root, 'my-copy')).toBe('/chat/my-copy')
    expect(requestedUrl(root, 'a%2Fb')).toBe('/chat/a%2Fb')
  })
})
