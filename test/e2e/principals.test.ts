import { expectStatus, refusal, Wire } from '../support/wire.js'

let wire: Wire
beforeAll(async () => {
  wire = await Wire.start({ env: { ELECTRIC_AGENTS_REFUSE_SYSTEM_PRINCIPALS: undefined } })
})
afterAll(async () => await wire.stop())

const identityOf = (id: string, more: object = {}) => ({
  kind: 'user',
  id,
  key: `user:${id}`,
  url: `/principal/user%3A${id}`,
  updated_at: '2026-11-22T09:31:05.278Z',
  ...more,
})

describe('the entity of a principal (spec/01 §3, spec/12 §1.4)', () => {
  it('is made with the first spawn, owned by itself, with its identity on the stream (DEVIATE: with headers)', async () => {
    await wire.register('anns', {}, 'user:ann')
    await wire.spawned('/anns/a', {}, 'user:ann')
    const { body } = expectStatus(200, await wire.get('/principal/user%3Aann', 'user:ann'))
    const { created_at } = body as { created_at: number }
    const at = new Date(created_at).toISOString()

    expect(body).toEqual({
      url: '/principal/user%3Aann',
      type: 'principal',
      status: 'idle',
      streams: { main: '/principal/user%3Aann/main' },
      tags: { principal_kind: 'user', principal_id: 'ann' },
      spawn_args: { kind: 'user', id: 'ann', key: 'user:ann' },
      created_by: '/principal/user%3Aann',
      created_at,
      updated_at: created_at,
    })
    const [created, identity] = await wire.events('/principal/user%3Aann')
    expect(created).toMatchObject({
      type: 'entity_created',
      value: { entity_type: 'principal', args: { kind: 'user', id: 'ann', key: 'user:ann' } },
    })
    expect(identity).toEqual({
      type: 'identity',
      key: 'self',
      value: { kind: 'user', id: 'ann', key: 'user:ann', url: '/principal/user%3Aann', created_at: at, updated_at: at },
      headers: { operation: 'insert', offset: expect.any(String) },
    })
  })

  it.each(['user:ann', '/principal/user%3Aann', '/principal/user:ann'])('is one, however its principal is spelled: %s', async (as) => {
    const answer = await wire.get('/principal/user:ann', as)

    expect(answer).toMatchObject({ status: 200, body: { url: '/principal/user%3Aann' } })
    expect(await wire.sql(`SELECT count(*)::int AS count FROM entities WHERE url LIKE '/principal/user%ann'`)).toEqual([{ count: 1 }])
  })

  it('of a user has its row again when it writes through a process that has not seen it yet, should somebody have removed that', async () => {
    await wire.register('bobs', {}, 'user:bob')
    await wire.spawned('/bobs/a', {}, 'user:bob')
    await wire.sql(`DELETE FROM users WHERE id = 'bob'`)

    expectStatus(200, await wire.send('/bobs/a', { payload: 1 }, 'user:bob'))

    expect(await wire.sql(`SELECT id FROM users WHERE id = 'bob'`)).toEqual([{ id: 'bob' }])
  })

  it('is made once when many first requests come at once, and all of them succeed', async () => {
    await wire.spawned('/chat/shared')
    await wire.sql(`UPDATE entities SET created_by = '/principal/user%3Arace' WHERE url = '/chat/shared'`)

    const sends = await Promise.all(
      Array.from({ length: 20 }, async (_, payload) => await wire.send('/chat/shared', { payload }, 'user:race')),
    )

    expect(sends.map(({ status }) => status)).toEqual(Array.from({ length: 20 }, () => 200))
    expect((await wire.events('/principal/user%3Arace')).map(({ type }) => type)).toEqual(['entity_created', 'identity'])
    expect(await wire.sql(`SELECT id, display_name, email, profile FROM users WHERE id = 'race'`)).toEqual([
      { id: 'race', display_name: null, email: null, profile: {} },
    ])
  })

  it('comes with a users row only for users', async () => {
    await wire.get('/principal/service:bot', 'service:bot')
    await wire.get('/principal/user:una', 'user:una')

    expect(await wire.sql(`SELECT id FROM users WHERE id IN ('bot', 'una')`)).toEqual([{ id: 'una' }])
  })

  it('of somebody never seen is not made by others asking for it (ours)', async () => {
    expect((await wire.get('/principal/user:stranger', 'user:ann')).status).toBe(404)
    expect(await wire.sql(`SELECT url FROM entities WHERE url LIKE '%stranger'`)).toEqual([])
  })

  it.each([
    ['a pattern', 'user:a*b'],
    ['too long', `user:${'x'.repeat(1_500)}`],
  ])('has a URL that an entity can have, or its principal is refused: %s', async (_, as) => {
    const before = await wire.counts()

    expect(await wire.ask('PUT', '/_electric/entities/chat/by-a-strange-one', {}, { as })).toMatchObject({
      status: 400,
      body: refusal('INVALID_REQUEST', 'Invalid principal id'),
    })
    expect(await wire.counts()).toEqual(before)
  })

  it('takes untyped messages from itself, and no types but its own', async () => {
    expect((await wire.send('/principal/user:ann', { payload: 'note' }, 'user:ann')).status).toBe(200)
    expect((await wire.send('/principal/user:ann', { payload: 1, type: 'other' }, 'user:ann')).status).toBe(422)
    expect((await wire.send('/principal/user:ann', { payload: 'note' }, 'user:kim')).status).toBe(401)
  })
})

describe('update_identity (spec/03 §7)', () => {
  it('by a bypass principal replaces the identity, under the txid of its message', async () => {
    await wire.get('/principal/user:ida', 'user:ida')
    const identity = identityOf('ida', { display_name: 'Ida', email: 'ida@example.com' })
    const sent = expectStatus(
      200,
      await wire.send('/principal/user:ida', { type: 'update_identity', payload: { identity } }, 'system:auth-sync'),
    )
    const { txid } = sent.body as { txid: string }
    const [, , message, update] = await wire.events('/principal/user%3Aida')

    expect(message).toMatchObject({ type: 'inbox', value: { message_type: 'update_identity', payload: { identity } }, headers: { txid } })
    expect(update).toMatchObject({ type: 'identity', key: 'self', value: identity, headers: { operation: 'update', txid } })
  })

  it('by anybody else is refused with 403, after its schema', async () => {
    expect(
      await wire.send('/principal/user:ida', { type: 'update_identity', payload: { identity: identityOf('ida') } }, 'user:ida'),
    ).toMatchObject({
      status: 403,
      body: refusal('UNAUTHORIZED', 'Only built-in system principals can update principal identity'),
    })
    expect((await wire.send('/principal/user:ida', { type: 'update_identity', payload: { identity: {} } }, 'user:ida')).status).toBe(422)
  })

  it('knows no members but its own', async () => {
    const identity = identityOf('ida', { admin: true })

    expect((await wire.send('/principal/user:ida', { type: 'update_identity', payload: { identity } })).status).toBe(422)
  })
})

describe('ownership (spec/12 §3)', () => {
  it('gives every permission to the creator and to bypass principals, none to others', async () => {
    await wire.spawned('/anns/owned', {}, 'user:ann')

    for (const as of ['user:ann', 'system:dev-local', 'system:framework', 'system:auth-sync']) {
      expect((await wire.get('/anns/owned', as)).status).toBe(200)
      expect((await wire.send('/anns/owned', { payload: 1 }, as)).status).toBe(200)
      expect((await wire.signal('/anns/owned', { signal: 'SIGUSR' }, as)).status).toBe(200)
    }
    for (const as of ['user:kim', 'service:ann', 'system:other', 'agent:ann'])
      expect(await wire.get('/anns/owned', as)).toMatchObject({
        status: 401,
        body: refusal('UNAUTHORIZED', 'Principal is not allowed to read /anns/owned'),
      })
  })

  it('of a parent gives nothing on children that somebody else spawned', async () => {
    await wire.spawned('/chat/child-of-ann', { parent: '/anns/owned' })

    expect((await wire.get('/chat/child-of-ann', 'user:ann')).status).toBe(401)
  })

  it('decides which entities are listed', async () => {
    const urls = async (as?: string, query = '') =>
      ((await wire.ask('GET', `/_electric/entities${query}`, undefined, as === undefined ? {} : { as })).body as { url: string }[]).map(
        ({ url }) => url,
      )

    expect(new Set(await urls('user:ann'))).toEqual(new Set(['/anns/owned', '/anns/a', '/principal/user%3Aann']))
    expect(await urls('user:kim')).toEqual([])
    expect(await urls(undefined, '?parent=/anns/owned')).toEqual(['/chat/child-of-ann'])
  })
})

describe('the list of entities (spec/02 §9.2)', () => {
  const urls = async (query: string) =>
    ((await wire.ask('GET', `/_electric/entities?${query}`)).body as { url: string }[]).map(({ url }) => url)

  it('combines exact filters, shows ended entities, newest first', async () => {
    await wire.register('listed')
    for (const id of ['a', 'b', 'c']) await wire.spawned(`/listed/${id}`, id === 'c' ? { parent: '/listed/a' } : {})
    await wire.kill('/listed/b')

    const rows = (await wire.ask('GET', '/_electric/entities?type=listed')).body as { url: string; created_at: number }[]
    expect(rows.map(({ url }) => url)).toEqual(
      [...rows].sort((x, y) => y.created_at - x.created_at || (x.url < y.url ? -1 : 1)).map(({ url }) => url),
    )
    expect(new Set(rows.map(({ url }) => url))).toEqual(new Set(['/listed/a', '/listed/b', '/listed/c']))
    expect(await urls('type=listed&status=killed')).toEqual(['/listed/b'])
    expect(await urls('type=listed&parent=/listed/a')).toEqual(['/listed/c'])
    expect(await urls(`type=listed&created_by=${encodeURIComponent('/principal/system%3Adev-local')}`)).toHaveLength(3)
    expect(await urls('type=listed&status=unheard-of')).toEqual([])
  })
})
