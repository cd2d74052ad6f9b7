import {
  entityOfMainStream,
  entityUrl,
  mainStream,
  offsetOf,
  parseEntityUrl,
  parseOffset,
  positionOf,
  typeOf,
  zeroOffset,
} from '../../src/domain/ids.js'

describe('an entity URL (spec/01 §4)', () => {
  it('keeps its segments exactly as they were sent', () => {
    expect(entityUrl('t1', 'a%20b')).toBe('/t1/a%20b')
    expect(entityUrl('t1', 'a%2Fb')).toBe('/t1/a%2Fb')
    expect(parseEntityUrl('/chat/demo')).toBe('/chat/demo')
  })

  it.each([
    ['a pattern', '/chat/a*'],
    ['a pattern as type', '/ch*t/a'],
    ['a reserved type', '/_chat/a'],
    ['one segment', '/chat'],
    ['three segments', '/chat/a/b'],
    ['no leading slash', 'chat/a'],
    ['an empty id', '/chat/'],
    ['dots', '/chat/..'],
    ['a dot', '/chat/.'],
    ['encoded dots', '/chat/%2e%2E'],
    ['a space', '/chat/a b'],
    ['a question mark', '/chat/a?b'],
    ['what is not ASCII', '/chat/é'],
    ['U+0000', '/chat/a\0'],
    ...['"', '#', '<', '>', '\\', '`', '{', '}'].map((what) => [`${what}, which URL parsers rewrite`, `/chat/a${what}b`]),
  ])('is not %s', (_, text) => {
    expect(parseEntityUrl(text)).toBeNull()
  })

  it('has at most 1,000 bytes (DEVIATE: longer ones are refused, none hangs)', () => {
    expect(entityUrl('chat', 'a'.repeat(994))).not.toBeNull()
    expect(entityUrl('chat', 'a'.repeat(995))).toBeNull()
  })

  it('tells its type and its main stream', () => {
    const url = parseEntityUrl('/chat/demo')
    if (url === null) throw new Error('not parsed')

    expect(typeOf(url)).toBe('chat')
    expect(mainStream(url)).toBe('/chat/demo/main')
    expect(entityOfMainStream('/chat/demo/main')).toBe('/chat/demo')
  })

  it.each(['/chat/demo', '/chat/demo/main/x', '/chat/main', '/main', '/chat/demo/attachments/a'])('%s is no main stream', (path) => {
    expect(entityOfMainStream(path)).toBeNull()
  })
})

describe('an offset (spec/14 §1.2)', () => {
  it('is two numbers of 16 digits, in string order', () => {
    expect(offsetOf(522)).toBe('0000000000000000_0000000000000522')
    expect(offsetOf(99) < offsetOf(100)).toBe(true)
    expect(parseOffset('0000000000000000_0000000000000522')).toBe('0000000000000000_0000000000000522')
    expect(positionOf(zeroOffset)).toBe(0)
    expect(positionOf(offsetOf(522))).toBe(522)
  })

  it.each(['', '-1', 'now', '1_2', '0000000000000000_000000000000052', '0000000000000000-0000000000000522', '٠'.repeat(16)])(
    'is not %p',
    (text) => {
      expect(parseOffset(text)).toBeNull()
    },
  )

  it('of another server that lies beyond every stream of ours stays beyond', () => {
    const offset = parseOffset('0000000000000001_0000000000000000')
    if (offset === null) throw new Error('not parsed')

    expect(positionOf(offset)).toBe(Number.MAX_SAFE_INTEGER)
  })
})
