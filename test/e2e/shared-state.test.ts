/** Shared-state streams over HTTP, in both stream modes (spec/03 §9.2, spec/12 §9). */
import { type Answer, expectStatus, refusal, Wire } from '../support/wire.js'

const read = refusal('UNAUTHORIZED', 'Principal is not allowed to read shared state')
const write = refusal('UNAUTHORIZED', 'Principal is not allowed to write shared state')
const access = refusal('UNAUTHORIZED', 'Principal is not allowed to access shared state')
const json = { 'content-type': 'application/json' }
const row = (key: string) => ({ type: 'note', key, value: { key }, headers: { operation: 'insert' } })

describe.each(['postgres', 'http'] as const)('a shared state, streams in %s,', (streams) => {
  let wire: Wire
  beforeAll(async () => {
    wire = await Wire.start({ streams })
    for (const user of ['sam', 'kim']) {
      await wire.register(`of-${user}`, {}, `user:${user}`)
      for (const id of ['a', 'b']) await wire.spawned(`/of-${user}/${id}`, {}, `user:${user}`)
    }
  })
  afterAll(async () => await wire.stop())

  const at = (id: string) => `/_electric/shared-state/${encodeURIComponent(id)}`
  const ask = async (method: string, id: string, as: string, { owner, body }: { owner?: string; body?: unknown } = {}): Promise<Answer> =>
    await wire.ask(method, at(id), body, { as, headers: { ...json, ...(owner === undefined ? {} : { 'electric-owner-entity': owner }) } })
  const rows = async (id: string, as: string) =>
    ((await wire.ask('GET', `${at(id)}?offset=-1`, undefined, { as })).body as readonly { key: string }[]).map(({ key }) => key)
  const linksOf = async (id: string) =>
    (await wire.sql('SELECT owner_url, manifest_key FROM shared_state_links WHERE shared_state_id = $1 ORDER BY 1', id)).map(
      ({ owner_url, manifest_key }) => [owner_url, manifest_key],
    )

  it('is created for the named owner, read at once, and written without naming it again', async () => {
    expectStatus(201, await ask('PUT', 'first', 'user:sam', { owner: '/of-sam/a' }))

    expect(await rows('first', 'user:sam')).toEqual([])
    expectStatus(204, await ask('POST', 'first', 'user:sam', { body: row('1') }))
    expect(await rows('first', 'user:sam')).toEqual(['1'])
    expect(await linksOf('first')).toEqual([['/of-sam/a', 'shared-state:first']])
    expectStatus(200, await ask('PUT', 'first', 'user:sam', { owner: '/of-sam/a' }))
    expectStatus(200, await wire.ask('HEAD', at('first'), undefined, { as: 'user:sam' }))
  })

  it('refuses whoever may do nothing with a linked entity, also with an owner of their own in the header', async () => {
    expectStatus(201, await ask('PUT', 'sams', 'user:sam', { owner: '/of-sam/a' }))

    expect(await wire.ask('GET', `${at('sams')}?offset=-1`, undefined, { as: 'user:kim' })).toMatchObject({ status: 401, body: read })
    for (const method of ['PUT', 'POST'])
      expect(await ask(method, 'sams', 'user:kim', { owner: '/of-kim/a', body: row('x') })).toMatchObject({ status: 401, body: write })
    expect(await linksOf('sams')).toEqual([['/of-sam/a', 'shared-state:sams']])
    expect(await rows('sams', 'user:sam')).toEqual([])
  })

  it.each([
    ['none', undefined],
    ["somebody else's entity", '/of-kim/a'],
    ['an entity that is not there', '/of-sam/nobody'],
    ['no entity URL', 'nonsense'],
  ])('is not created where the header names %s', async (name, owner) => {
    const id = `refused ${name}`

    expect(await ask('PUT', id, 'user:sam', owner === undefined ? {} : { owner })).toMatchObject({ status: 401, body: write })
    expect(await linksOf(id)).toEqual([])
  })

  it('refuses other methods to everybody', async () => {
    expectStatus(201, await ask('PUT', 'kept', 'user:sam', { owner: '/of-sam/a' }))

    for (const as of ['user:sam', 'system:framework'])
      for (const method of ['DELETE', 'PATCH']) expect(await ask(method, 'kept', as)).toMatchObject({ status: 401, body: access })
  })

  it('never links an entity that its writer may not write, whoever may write the state', async () => {
    expectStatus(201, await ask('PUT', 'not-given', 'user:sam', { owner: '/of-sam/a' }))

    expectStatus(204, await ask('POST', 'not-given', 'user:sam', { owner: '/of-kim/a', body: row('1') }))

    expect(await linksOf('not-given')).toEqual([['/of-sam/a', 'shared-state:not-given']])
    expect((await ask('GET', 'not-given', 'user:kim')).status).toBe(401)
  })

  it('is shared with a second owner by a writer who may write both', async () => {
    expectStatus(201, await ask('PUT', 'both', 'user:sam', { owner: '/of-sam/a' }))

    expectStatus(204, await ask('POST', 'both', 'system:framework', { owner: '/of-kim/a', body: row('1') }))

    expect(await rows('both', 'user:kim')).toEqual(['1'])
    expectStatus(204, await ask('POST', 'both', 'user:kim', { body: row('2') }))
    expect(await rows('both', 'user:sam')).toEqual(['1', '2'])
  })

  it('that two bootstrap at once belongs to one of them', async () => {
    for (let round = 0; round < 8; round += 1) {
      const id = `race ${round}`

      const [sams, kims] = await Promise.all([
        ask('PUT', id, 'user:sam', { owner: '/of-sam/a' }),
        ask('PUT', id, 'user:kim', { owner: '/of-kim/a' }),
      ])

      expect([sams.status, kims.status].sort()).toEqual([201, 401])
      const owner = sams.status === 201 ? '/of-sam/a' : '/of-kim/a'
      expect(await linksOf(id)).toEqual([[owner, `shared-state:${id}`]])
    }
  })

  it('has one segment: its percent-decoded id; deeper paths are nothing', async () => {
    const id = 'a/b %ü'
    expectStatus(201, await ask('PUT', id, 'user:sam', { owner: '/of-sam/b' }))

    expect(await linksOf(id)).toEqual([['/of-sam/b', `shared-state:${id}`]])
    for (const method of ['GET', 'PUT', 'POST', 'DELETE'])
      expect((await wire.ask(method, '/_electric/shared-state/x/y', undefined, { as: 'system:framework', headers: json })).status).toBe(404)
  })
})
