import fc from 'fast-check'
import { isLinkable, type Mount, matches, nameOfPath, pathOfName, patternPrefix, prefixesOf } from '../../src/domain/subscriptions.js'

const root = (pattern: string, path: string): boolean => matches('', pattern, path)

describe('a pattern (spec/06 §3.1)', () => {
  it.each([
    ['t1/**', '/t1'],
    ['t1/**', '/t1/x'],
    ['t1/**', '/t1/x/main'],
    ['t1/*', '/t1/x'],
    ['*/x/main', '/t1/x/main'],
    ['**', '/anything/at/all'],
    ['**/main', '/main'],
    ['**/main', '/t1/x/main'],
    ['a/**/z', '/a/z'],
    ['a/**/z', '/a/b/c/z'],
    ['**/**', '/a'],
    ['a*', '/a*'],
    ['%2A', '/*'],
    ['%2a/x', '/%2A/x'],
    ['/t1/*/', '/t1/x'],
    ['t1/x', '/t1/x'],
  ])('%s names %s', (pattern, path) => {
    expect(root(pattern, path)).toBe(true)
  })

  it.each([
    ['t1/**', '/t10/x'],
    ['t1/*', '/t1'],
    ['t1/*', '/t1/x/main'],
    ['*', '/a/b'],
    ['a*', '/ab'],
    ['%2A', '/a'],
    ['a/**/z', '/a/b/z/c'],
    ['t1/x', '/T1/x'],
    ['**', '/__ds/subscriptions/x'],
    ['**', '/__ds'],
    ['*', '/__ds'],
  ])('%s does not name %s', (pattern, path) => {
    expect(root(pattern, path)).toBe(false)
  })

  it('of the second view names what is below its prefix, relative to it', () => {
    expect(matches('/v1/stream', 'events/*', '/v1/stream/events/a')).toBe(true)
    expect(matches('/v1/stream', '**', '/v1/stream/__ds/x')).toBe(false)
    expect(matches('/v1/stream', '**', '/events/a')).toBe(false)
    expect(matches('/v1/stream', '**', '/v1/streams/a')).toBe(false)
  })
})

describe('the prefix of a pattern', () => {
  it.each([
    ['', 't1/**', '/t1'],
    ['', '**', ''],
    ['', '*/x', ''],
    ['', 'a/b', '/a/b'],
    ['', 'a/%2A/**', '/a/*'],
    ['/v1/stream', 'events/*', '/v1/stream/events'],
    ['/v1/stream', '**', '/v1/stream'],
  ] as readonly (readonly [Mount, string, string])[])('is, on "%s", of %s: "%s"', (mount, pattern, prefix) => {
    expect(patternPrefix(mount, pattern)).toBe(prefix)
  })

  it('is one of the prefixes of every path that the pattern names: a new stream finds it by them', () => {
    const segment = fc.constantFrom('a', 'b', 'ab', 'main')
    const pattern = fc
      .array(fc.oneof(segment, fc.constantFrom('*', '**')), { minLength: 1, maxLength: 5 })
      .map((segments) => segments.join('/'))
    const path = fc.array(segment, { minLength: 1, maxLength: 5 }).map((segments) => `/${segments.join('/')}`)

    fc.assert(
      fc.property(pattern, path, (one, other) => {
        if (root(one, other)) expect(prefixesOf(other)).toContain(patternPrefix('', one))
      }),
      { numRuns: 2_000 },
    )
  })

  it('and the path of a name are undone by one another', () => {
    expect(nameOfPath('/v1/stream', pathOfName('/v1/stream', '/a/b/'))).toBe('a/b')
    expect(nameOfPath('', pathOfName('', 'a/b'))).toBe('a/b')
  })
})

describe('patterns never link', () => {
  it.each(['/_cron/x', '/_entities/x', '/_webhooks/x/y', '/runners/r/wake', '/chat/a/attachments/b', '/v1/stream/__ds/x'])('%s', (path) => {
    expect(isLinkable(path)).toBe(false)
  })

  it.each(['/chat/a/main', '/plain', '/v1/stream/x', '/runners/r/other'])('but they do link %s', (path) => {
    expect(isLinkable(path)).toBe(true)
  })
})
