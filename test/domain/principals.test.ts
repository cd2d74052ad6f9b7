import { parseEntityUrl } from '../../src/domain/ids.js'
import { checkPrincipal, isBypass, knownPrincipal, parsePrincipal } from '../../src/domain/principals.js'

function principal(text: string) {
  const parsed = parsePrincipal(text)
  if ('refused' in parsed) throw new Error(parsed.refused)
  return parsed.principal
}

describe('a principal (spec/12 §1.1)', () => {
  it.each(['user:sam', '/principal/user%3Asam', '/principal/user:sam'])('is the same in every spelling: %s', (spelling) => {
    expect(principal(spelling)).toEqual({ kind: 'user', id: 'sam', key: 'user:sam', url: '/principal/user%3Asam' })
  })

  it('splits at the first colon and encodes what the URL needs encoded', () => {
    expect(principal('user:clerk:user_123')).toMatchObject({ id: 'clerk:user_123', url: '/principal/user%3Aclerk%3Auser_123' })
    expect(principal('user:sam@example.com').url).toBe('/principal/user%3Asam%40example.com')
    expect(principal('/principal/service%3A%C3%A9').id).toBe('é')
  })

  it.each([
    ['sam', 'Invalid principal identifier'],
    [':sam', 'Invalid principal identifier'],
    ['', 'Invalid principal identifier'],
    ['/principal/', 'Invalid principal identifier'],
    ['/principal/user%3Asam/more', 'Invalid principal identifier'],
    ['/principal/%zz', 'Invalid principal identifier'],
    ['entity:sam', 'Invalid principal kind'],
    ['User:sam', 'Invalid principal kind'],
    ['__proto__:sam', 'Invalid principal kind'],
    ['user:', 'Invalid principal id'],
    ['user:a/b', 'Invalid principal id'],
    ['/principal/user%3Aa%2Fb', 'Invalid principal id'],
    ['agent:chat/a', 'Invalid principal id'],
    ['/principal/agent%3Achat%2Fa', 'Invalid principal id'],
    ['user:a\0', 'Invalid principal id'],
    ['user:\ud800', 'Invalid principal id'],
  ])('%p is refused: %s', (text, refused) => {
    expect(parsePrincipal(text)).toEqual({ refused })
  })

  it('is known by the path of an agent once an embedding program has said so, and only an agent has one (spec/01 §3)', () => {
    const agent = { kind: 'agent', id: 'chat/a', key: 'agent:chat/a', url: '/principal/agent%3Achat%2Fa' }
    expect(checkPrincipal({ kind: 'agent', id: 'chat/a' })).toEqual({ principal: agent })
    expect([agent.key, agent.url].map(knownPrincipal)).toEqual([{ principal: agent }, { principal: agent }])
    expect(checkPrincipal({ kind: 'user', id: 'a/b' })).toEqual({ refused: 'Invalid principal id' })
    expect(knownPrincipal('/principal/user%3Aa%2Fb')).toEqual({ refused: 'Invalid principal id' })
  })

  it('always has a URL that can be an entity’s: no pattern, at most 1,000 bytes', () => {
    expect(parsePrincipal('user:a*b')).toEqual({ refused: 'Invalid principal id' })
    expect(parsePrincipal(`user:${'a'.repeat(1_000)}`)).toEqual({ refused: 'Invalid principal id' })
    expect(parsePrincipal(`user:${'é'.repeat(170)}`)).toEqual({ refused: 'Invalid principal id' })
    expect(parseEntityUrl(principal(`user:${'a'.repeat(900)}`).url)).not.toBeNull()
  })
})

describe('bypass (spec/12 §1.5)', () => {
  it('is for the three built-in system principals', () => {
    expect(['system:framework', 'system:auth-sync', 'system:dev-local'].map((key) => isBypass(principal(key)))).toEqual([true, true, true])
  })

  it.each(['system:other', 'user:dev-local', 'service:framework', 'system:framework:x'])('is not for %s', (key) => {
    expect(isBypass(principal(key))).toBe(false)
  })
})
