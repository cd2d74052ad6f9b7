import { retryAfterMsOf, retryInMs } from '../../src/domain/redelivery.js'

const nowMs = Date.parse('2026-11-30T10:00:00Z')
const inTwoMinutes = ['Mon, 30 Nov 2026 10:02:00 GMT', 'Monday, 30-Nov-26 10:02:00 GMT', 'Mon Nov 30 10:02:00 2026']

describe('what a handler asks for by retry-after', () => {
  it.each(['120', ' 120 ', ...inTwoMinutes])('as %j is two minutes', (header) => {
    expect(retryAfterMsOf(header, nowMs)).toBe(120_000)
  })

  it.each(['0', 'Sun, 29 Nov 2026 10:00:00 GMT', 'Tue Dec  1 10:02:00 2020'])('as %j is nothing to wait for', (header) => {
    expect(retryAfterMsOf(header, nowMs)).toBe(0)
  })

  it.each(['1000000000', '9'.repeat(400)])('as %j is the longest that it may', (header) => {
    expect(retryInMs(1, retryAfterMsOf(header, nowMs))).toBe(600_000)
  })

  it.each([
    '',
    '120.5',
    '-1',
    '10, 20',
    '12/25',
    '1e3',
    'soon',
    '2026-11-30',
    '2026-11-30T10:02:00Z',
    'Mon, 99 Nov 2026 10:02:00 GMT',
    'Mon, 30 Nov 2026 10:02:00',
    'Mon, 30 Nov 2026 10:02:00 +0100',
  ])('is not said by %j', (header) => {
    expect(retryAfterMsOf(header, nowMs)).toBeUndefined()
  })
})
