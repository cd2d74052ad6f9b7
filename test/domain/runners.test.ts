import fc from 'fast-check'
import { defaultWakeStream, isRunnerId } from '../../src/domain/runners.js'

describe('the id of a runner', () => {
  it.each(['r1', 'a', 'Kyles-MacBook.local', 'a_b~c', "o'neill(1)!", '0', 'with space', 'ключ', '🏃', 'a..b', '...'])('may be %p', (id) => {
    expect(isRunnerId(id)).toBe(true)
  })

  it.each([
    ...['', '.', '..', 'a/b', '/', 'a:b', 'user@host', 'a+b', 'a,b', 'a=b', 'a&b', '$a', 'a;b', 'a%20b', '%', 'a*', '*', 'a?b', 'a#b'],
    ...['a\\b', 'a\0', 'a\nb', 'a\tb', '\ud800', '[a]', 'a|b', 'x'.repeat(501)],
  ])('is never %p', (id) => {
    expect(isRunnerId(id)).toBe(false)
  })

  it('names one path, whether its client escapes it or leaves that to its URL parser', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.string({ unit: 'grapheme-ascii' })), (id) => {
        if (!isRunnerId(id)) return
        expect(new URL(`http://server/runners/${id}/wake`).href).toBe(`http://server${defaultWakeStream(id)}`)
        expect(new URL(`http://server/runners/${encodeURIComponent(id)}/wake`).href).toBe(`http://server${defaultWakeStream(id)}`)
      }),
      { numRuns: 2_000 },
    )
  })
})
