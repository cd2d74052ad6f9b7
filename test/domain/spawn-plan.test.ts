import type { EntityType } from '../../src/domain/entity.js'
import type { EntityUrl } from '../../src/domain/ids.js'
import type { SpawnItem } from '../../src/domain/operations.js'
import { principalType } from '../../src/domain/principal-entity.js'
import { type Principal, parsePrincipal } from '../../src/domain/principals.js'
import { planPrincipal, planSpawn } from '../../src/domain/spawn-plan.js'

const atMs = 1_795_339_864_031
const now = '2026-11-22T09:31:04.031Z'
const revised = { revision: 3, created_at: now, updated_at: now }
const type: EntityType = { ...principalType, ...revised, name: 'chat', inbox_schemas: { query: {} }, state_schemas: null }

function principal(key: string): Principal {
  const parsed = parsePrincipal(key)
  if ('refused' in parsed) throw new Error(parsed.refused)
  return parsed.principal
}

const sam = principal('user:sam')
const item: SpawnItem = { url: '/chat/demo' as EntityUrl, principal: sam.key }
const plan = (more: Partial<SpawnItem> = {}, ofType: Partial<EntityType> = {}) =>
  planSpawn({ item: { ...item, ...more }, principal: sam, type: { ...type, ...ofType }, parent: null, sandbox: null, atMs, seed: 'op/0' })
const firstEntry = (made: ReturnType<typeof plan>): unknown[] => JSON.parse(made.firstEntry.toString('utf8'))

describe('a spawn (spec/02 §6.3)', () => {
  it('writes an idle row of the caller with copies of the schemas and the revision of its type', () => {
    expect(plan().entity).toEqual({
      url: '/chat/demo',
      type: 'chat',
      status: 'idle',
      dispatch_policy: null,
      tags: {},
      spawn_args: {},
      sandbox: null,
      parent: null,
      created_by: '/principal/user%3Asam',
      type_revision: 3,
      inbox_schemas: { query: {} },
      state_schemas: null,
      created_at: atMs,
      updated_at: atMs,
    })
  })

  it('stores tags with sorted keys, whatever they are called', () => {
    const tags = JSON.parse('{"b":"2","__proto__":"p","a":"1"}') as Record<string, string>

    expect(JSON.stringify(plan({ tags }).entity.tags)).toBe('{"__proto__":"p","a":"1","b":"2"}')
  })

  it('begins the stream with one entry: entity_created, then one event per command of the type', () => {
    const slash_commands = [{ name: 'goal', description: 'Session goal' }, { name: 'clear' }]

    expect(firstEntry(plan({ args: { topic: 'x' } }, { slash_commands }))).toEqual([
      {
        type: 'entity_created',
        key: 'entity-created',
        value: { entity_type: 'chat', timestamp: now, args: { topic: 'x' } },
        headers: { operation: 'insert' },
      },
      ...slash_commands.map((command) => ({
        type: 'slash_command',
        key: command.name,
        value: { ...command, source: 'static', updated_at: now },
        headers: { operation: 'insert' },
      })),
    ])
  })

  it('writes no message unless one is given', () => {
    expect(plan().messages).toEqual([])
  })

  it('writes a first message as an entry of its own, null too, without from_principal', () => {
    expect(plan({ initialMessage: { payload: null, type: 'query' } }).messages).toEqual([
      {
        type: 'inbox',
        key: expect.stringMatching(/^msg-in-1795339864031-[0-9a-z]{6}$/),
        value: {
          from: '/principal/user%3Asam',
          payload: null,
          timestamp: now,
          mode: 'immediate',
          status: 'processed',
          message_type: 'query',
          processed_at: now,
        },
        headers: { operation: 'insert', txid: expect.stringMatching(/^[0-9a-f-]{36}$/) },
      },
    ])
  })

  it('takes an empty message type for none', () => {
    expect(plan({ initialMessage: { payload: 1, type: '' } }).messages[0]?.value).not.toHaveProperty('message_type')
  })

  it('plans the same bytes for the same operation', () => {
    const message = { initialMessage: { payload: 'hello' } }

    expect(plan(message)).toEqual(plan(message))
  })

  it('names its parent in the row and in the stream', () => {
    const parent = { url: '/chat/root' as EntityUrl, dispatch_policy: null }
    const made = planSpawn({ item, principal: sam, type, parent, sandbox: null, atMs, seed: 's' })

    expect(made.entity.parent).toBe('/chat/root')
    expect(firstEntry(made)).toMatchObject([{ value: { parent_url: '/chat/root' } }])
  })
})

describe('the entity of a principal (spec/01 §3)', () => {
  it('stands at the URL of its principal, owns itself, and begins with its identity', () => {
    const { entity, firstEntry: first, messages } = planPrincipal(sam, { ...principalType, ...revised }, atMs)

    expect(entity).toMatchObject({
      url: '/principal/user%3Asam',
      type: 'principal',
      status: 'idle',
      dispatch_policy: null,
      created_by: '/principal/user%3Asam',
      spawn_args: { kind: 'user', id: 'sam', key: 'user:sam' },
      tags: { principal_kind: 'user', principal_id: 'sam' },
    })
    expect((JSON.parse(first.toString('utf8')) as { type: string }[]).map((event) => event.type)).toEqual(['entity_created', 'identity'])
    expect(messages).toEqual([])
  })
})
