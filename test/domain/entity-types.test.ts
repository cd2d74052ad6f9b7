import { effectiveSchemas } from '../../src/domain/entity-types.js'
import { rewriteLoopback } from '../../src/domain/loopback.js'
import { slashCommandViolations } from '../../src/domain/slash-commands.js'

describe('the effective schemas of an entity', () => {
  const a = { type: 'string' }
  const b = { type: 'number' }

  it('are the copy taken at spawn, overlaid key by key with the current ones', () => {
    const entity = { inbox_schemas: { kept: a, changed: a }, state_schemas: null }
    const type = { inbox_schemas: { changed: b, added: b }, state_schemas: { run: b } }

    expect(effectiveSchemas(entity, type)).toEqual({ inbox: { kept: a, changed: b, added: b }, state: { run: b } })
  })

  it('are the copy alone once the type is deleted or has none', () => {
    expect(effectiveSchemas({ inbox_schemas: { x: a }, state_schemas: null }, null)).toEqual({ inbox: { x: a }, state: null })
    expect(effectiveSchemas({ inbox_schemas: { x: a }, state_schemas: null }, { inbox_schemas: null, state_schemas: null })).toEqual({
      inbox: { x: a },
      state: null,
    })
  })
})

describe('rewriting a loopback URL', () => {
  it.each([
    ['host.docker.internal', 'http://localhost:3000/w', 'http://host.docker.internal:3000/w'],
    ['box:99', 'http://127.0.0.1:3000/w', 'http://box:99/w'],
    ['https://devbox.internal:8443', 'http://localhost:3000/w?q=1', 'https://devbox.internal:8443/w?q=1'],
    ['https://devbox.internal', 'http://localhost:3000/w', 'https://devbox.internal/w'],
    ['host.docker.internal', 'http://[::1]:3000/w', 'http://host.docker.internal:3000/w'],
    ['host.docker.internal', 'http://runtime:3000/w', 'http://runtime:3000/w'],
    [undefined, 'http://localhost:3000/w', 'http://localhost:3000/w'],
  ])('to %s: %s becomes %s', (target, sent, expected) => {
    expect(rewriteLoopback(sent, target, 'serve_endpoint')).toBe(expected)
  })

  it.each(['not a url', 'ftp://host/x', '/relative'])('refuses %s', (sent) => {
    expect(() => rewriteLoopback(sent, 'box', 'serve_endpoint')).toThrow('serve_endpoint must be an absolute http(s) URL')
  })
})

describe('slash commands', () => {
  it('have names of their own, however many there are', () => {
    const many = Array.from({ length: 300_000 }, (_, index) => ({ name: `command-${index}` }))

    expect(slashCommandViolations([...many, { name: 'command-7' }])).toEqual([
      { path: '/slash_commands/300000/name', message: 'must be unique' },
    ])
    const argument = { name: 'a', type: 'string' } as const
    expect(slashCommandViolations([{ name: 'x', arguments: [argument, argument] }])).toEqual([
      { path: '/slash_commands/0/arguments/1/name', message: 'must be unique' },
    ])
  })
})
