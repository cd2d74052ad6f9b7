/** What a fork is refused for, in the order of spec/04 §3, and that a refused one leaves nothing behind. */
import fc from 'fast-check'
import { Forker } from '../support/forker.js'
import { neverFails, noObject, oddSegment, refusesAll } from '../support/hostile.js'
import { runEvent } from '../support/runtime-writer.js'
import { refusal } from '../support/wire.js'

const invalid = (message: string, details?: unknown) => refusal('INVALID_REQUEST', message, details)

let forker: Forker
beforeAll(async () => {
  forker = await Forker.start({ env: { ELECTRIC_AGENTS_MAX_FORK_ENTITIES: '5' } })
  await forker.wire.spawned('/chat/root')
  await forker.wire.spawned('/worker/kid', { parent: '/chat/root' })
  await forker.wire.spawned('/chat/parent')
  await forker.wire.spawned('/chat/ended')
  await forker.wire.kill('/chat/ended')
  await forker.wire.spawned('/sams/own', {}, 'user:sam')
  await forker.wire.spawned('/sams/root', {}, 'user:sam')
  await forker.wire.send('/principal/user:sam', { payload: 1 }, 'user:sam')
})
afterAll(async () => await forker.stop())

describe('the order of checks', () => {
  const pointer = { fork_pointer: { offset: null, sub_offset: 1 } }
  const wake = { subscriberUrl: '/chat/parent', condition: 'runFinished' }
  it.each([
    ['1: no such entity, before the body', '/chat/none', '{', 404, refusal('NOT_FOUND', 'Entity not found at /chat/none')],
    ['1: no such type, before the body', '/none/x', '{', 404, refusal('UNKNOWN_ENTITY_TYPE', 'Entity type "none" not found')],
    [
      '2: the body, before the permission',
      '/sams/own',
      { waitTimeoutMs: 'x' },
      400,
      expect.objectContaining({
        error: expect.objectContaining({ code: 'INVALID_REQUEST', message: 'Request body does not match API schema' }),
      }),
      'user:kim',
    ],
    [
      '3: the permission, before everything that the entity decides',
      '/sams/own',
      { ...pointer, anchor: 'latest_completed_run' },
      401,
      refusal('UNAUTHORIZED', 'Principal is not allowed to fork /sams/own'),
      'user:kim',
    ],
    [
      '4: a principal',
      '/principal/user%3Asam',
      { ...pointer, anchor: 'latest_completed_run' },
      400,
      invalid('Principal entities are built in and cannot be forked'),
    ],
    [
      '5: two cuts',
      '/chat/root',
      { ...pointer, anchor: 'latest_completed_run', parent: '/chat/none' },
      400,
      invalid('fork_pointer and anchor are mutually exclusive'),
    ],
    ['7: a missing parent', '/chat/root', { parent: '/chat/none', wake }, 404, refusal('NOT_FOUND', 'Parent entity not found')],
    [
      '8: a parent of somebody else',
      '/sams/own',
      { parent: '/chat/parent', wake: { ...wake, subscriberUrl: '/x' } },
      401,
      refusal('UNAUTHORIZED', 'Principal is not allowed to spawn children from /chat/parent'),
      'user:sam',
    ],
    ['a parent that has ended', '/chat/root', { parent: '/chat/ended' }, 409, refusal('NOT_RUNNING', 'Entity is not accepting writes')],
    [
      '9: a wake for nobody',
      '/chat/root',
      { wake, waitTimeoutMs: -1 },
      400,
      invalid("wake requires parent (the fork's wake fires to its parent)"),
    ],
    [
      '10: a wake for somebody else',
      '/chat/root',
      { parent: '/chat/parent', wake: { ...wake, subscriberUrl: '/chat/root' } },
      401,
      refusal('UNAUTHORIZED', 'wake.subscriberUrl must match parent'),
    ],
    ['wakes come later', '/chat/root', { parent: '/chat/parent', wake }, 501, refusal('NOT_IMPLEMENTED', 'Not implemented yet: wakes')],
    [
      '11: a negative time to wait',
      '/chat/root',
      { waitTimeoutMs: -1, instance_id: 'a/b' },
      400,
      invalid('waitTimeoutMs must be a non-negative number'),
    ],
    ['12: a child', '/worker/kid', { instance_id: 'a/b' }, 400, invalid('Only top-level entities can be forked')],
    ['12: an ended root', '/chat/ended', {}, 409, refusal('NOT_RUNNING', 'Cannot fork terminal entity "/chat/ended"')],
    ['12: an ended root at a pointer', '/chat/ended', pointer, 409, refusal('NOT_RUNNING', 'Cannot fork terminal entity "/chat/ended"')],
    ['13: a child at a pointer', '/worker/kid', pointer, 400, invalid('Only top-level entities can be forked')],
    ['16: no id', '/chat/root', { instance_id: '' }, 400, invalid('Fork instance_id must not be empty or contain forward slashes')],
    [
      '16: an id with a slash',
      '/chat/root',
      { instance_id: '/chat/x' },
      400,
      invalid('Fork instance_id must not be empty or contain forward slashes'),
    ],
    ['16: an id that nobody can address', '/chat/root', { instance_id: '..' }, 400, invalid('Invalid entity URL')],
    ['16: an id of 1,001 bytes', '/chat/root', { instance_id: 'x'.repeat(1_001) }, 400, invalid('Invalid entity URL')],
    [
      '17: a taken id',
      '/chat/root',
      { instance_id: 'parent' },
      409,
      refusal('DUPLICATE_URL', 'Entity already exists at URL "/chat/parent"'),
    ],
    [
      '17: the id of an ended entity',
      '/chat/root',
      { instance_id: 'ended' },
      409,
      refusal('DUPLICATE_URL', 'Entity already exists at URL "/chat/ended"'),
    ],
    [
      'tags that are too many',
      '/chat/root',
      { tags: Object.fromEntries(Array.from({ length: 300 }, (_, nth) => [`k${nth}`, '1'])) },
      400,
      invalid('Tags are limited to 256 per entity'),
    ],
  ] as const)('%s', async (...[, url, body, status, expected, as]) => {
    const before = await forker.leftovers()

    expect(await forker.fork(url, body, as === undefined ? {} : { as })).toMatchObject({ status, body: expected })
    expect(await forker.leftovers()).toEqual(before)
  })

  it('6: a source whose runner is not the caller’s', async () => {
    const policy = { targets: [{ type: 'runner', runnerId: 'gone' }] }
    await forker.wire.spawned('/chat/run')
    await forker.wire.sql('UPDATE entities SET dispatch_policy = $1 WHERE url = $2', JSON.stringify(policy), '/chat/run')

    expect(await forker.fork('/chat/run')).toMatchObject({ status: 404, body: refusal('NOT_FOUND', 'Runner "gone" not found') })

    const runner = { id: 'kims', label: 'kims', sandbox_profiles: [] }
    expect((await forker.wire.ask('POST', '/_electric/runners', runner, { as: 'user:kim' })).status).toBe(201)
    const theirs = { targets: [{ type: 'runner', runnerId: 'kims' }] }
    await forker.wire.sql('UPDATE entities SET dispatch_policy = $1 WHERE url = $2', JSON.stringify(theirs), '/chat/run')
    expect(await forker.fork('/chat/run', { parent: '/chat/none' })).toMatchObject({
      status: 403,
      body: refusal('UNAUTHORIZED', 'Runner dispatch requires the authenticated owner'),
    })
  })

  it.each([
    ['a pointer without its count', { fork_pointer: { offset: null } }],
    ['a pointer without its offset', { fork_pointer: { sub_offset: 1 } }],
    ['a pointer with a number for an offset', { fork_pointer: { offset: 1, sub_offset: 1 } }],
    ['a pointer with a text for a count', { fork_pointer: { offset: null, sub_offset: '1' } }],
    ['a pointer without a count that counts', { fork_pointer: { offset: null, sub_offset: null } }],
    ['no object for a pointer', { fork_pointer: 'now' }],
    ['nothing for a pointer', { fork_pointer: null }],
    ['another anchor', { anchor: 'first_completed_run' }],
    ['a number for an id', { instance_id: 7 }],
    ['a list for tags', { tags: ['a'] }],
    ['a number for a tag', { tags: { a: 1 } }],
    ['a number for a parent', { parent: 7 }],
    ['a wake without its condition', { parent: '/chat/parent', wake: { subscriberUrl: '/chat/parent' } }],
    ['a wake for another moment', { parent: '/chat/parent', wake: { subscriberUrl: '/chat/parent', condition: 'now' } }],
  ])('2: %s', async (_, body) => {
    const before = await forker.leftovers()

    expect(await forker.fork('/chat/root', body)).toMatchObject({
      status: 400,
      body: { error: { code: 'INVALID_REQUEST', message: 'Request body does not match API schema' } },
    })
    expect(await forker.leftovers()).toEqual(before)
  })

  it('11: a time to wait that has no end is refused at HEAD; at a pointer nobody looks at it', async () => {
    const raw = async (body: string) => await forker.wire.askRaw('POST', '/_electric/entities/chat/root/fork', body)

    expect((await raw('{"waitTimeoutMs":1e999}')).status).toBe(400)
    expect((await raw('{"waitTimeoutMs":-1,"fork_pointer":{"offset":null,"sub_offset":1}}')).status).toBe(201)
  })

  it.each([
    ['.', 400],
    ['..', 400],
    ['a/b', 400],
    ['a%2Fb', 201],
    ['a%zz', 400],
    ['a\u0000b', 400],
    ['a b', 400],
    ['ä', 400],
    ['a?b', 400],
    ['a#b', 400],
    ['...', 201],
    ['x'.repeat(1_001), 400],
  ])('16: the id %j: %i', async (instance_id, status) => {
    const answer = await forker.fork('/chat/root', { instance_id, waitTimeoutMs: 0 })

    expect(answer.status).toBe(status)
    if (status === 201) expect((await forker.wire.get(`/chat/${instance_id}`)).body).toEqual((answer.body as { root: unknown }).root)
  })

  it('what nobody knows in a body is left alone', async () => {
    expect(
      (await forker.forked('/chat/root', { forkPointer: { offset: 'x' }, pollIntervalMs: -1, instanceId: '/' })).entities,
    ).toHaveLength(2)
  })
})

it('an attachment of what is being copied stays until that is done, or its time is up; all else goes on (§13)', async () => {
  const root = await forker.root()
  await forker.attach(root, 'a')
  const remove = async () => await forker.wire.ask('DELETE', `/_electric/entities${root}/attachments/a`)
  const lock = `INSERT INTO fork_locks (tenant_id, url, operation_id, reason, deadline) VALUES ('default', $1, $2, 'test', now() + $3::interval)`
  await forker.wire.sql(lock, root, 'one', '1 hour')
  await forker.wire.sql(lock, root, 'lapsed', '-1 second')

  expect(await remove()).toMatchObject({ status: 409, body: refusal('FORK_IN_PROGRESS', 'Entity subtree is being forked') })
  expect((await forker.wire.send(root, { payload: 1 })).status).toBe(200)
  expect((await forker.wire.signal(root, { signal: 'SIGSTOP' })).status).toBe(200)
  await forker.child(root)
  expect((await forker.forked(root)).entities).toHaveLength(2)

  await forker.wire.sql(`DELETE FROM fork_locks WHERE operation_id = 'one'`)
  expect((await remove()).status).toBe(200)
  await forker.wire.sql(`DELETE FROM fork_locks WHERE reason = 'test'`) // a sweep in the middle of a later test would take the lapsed one
})

describe('after a fork that was refused or failed', () => {
  it('everything of its source is written to as before (§13, MUST)', async () => {
    const root = await forker.root()
    const child = await forker.child(root)
    for (const body of [{ instance_id: 'parent' }, { fork_pointer: { offset: null, sub_offset: 99 } }, { anchor: 'latest_completed_run' }])
      expect((await forker.fork(root, body)).status).toBeGreaterThanOrEqual(400)

    for (const url of [root, child]) expect((await forker.wire.send(url, { payload: 1 })).status).toBe(200)
    await forker.writer.append(root, runEvent('a', 'completed'))
    expect((await forker.forked(root)).entities).toHaveLength(2)
  })
})

it('a subtree above the limit is refused before anything is touched', async () => {
  const root = await forker.root()
  for (let nth = 0; nth < 4; nth += 1) await forker.child(root)
  await forker.forked(root)
  await forker.child(root)
  const before = await forker.leftovers()

  expect(await forker.fork(root)).toMatchObject({ status: 400, body: invalid('Subtree has more than 5 entities') })
  expect(await forker.fork(root, { fork_pointer: { offset: null, sub_offset: 1 } })).toMatchObject({ status: 400 })
  expect(await forker.leftovers()).toEqual(before)
})

it('one ended descendant makes forks of its ancestors at HEAD impossible; at a pointer before it they are not', async () => {
  const root = await forker.root()
  await forker.writer.append(root, runEvent('a', 'completed'))
  const kid = await forker.child(root)
  await forker.wire.kill(kid)

  expect(await forker.fork(root)).toMatchObject({ status: 409, body: refusal('NOT_RUNNING', `Cannot fork terminal entity "${kid}"`) })
  expect((await forker.forked(root, { anchor: 'latest_completed_run' })).entities).toHaveLength(1)
})

describe('whatever is sent', () => {
  const odd = fc.oneof(
    fc.jsonValue({ maxDepth: 1 }),
    fc.constantFrom('x'.repeat(2_000), 1e300, -0.5, Number.MAX_SAFE_INTEGER, '\u0000', '\ud800'),
  )

  it('paths that name nothing are refused', async () => {
    await refusesAll(forker.wire, fc.tuple(fc.constantFrom('chat', 'none', 'principal'), oddSegment), async ([type, id]) =>
      forker.wire.askRaw('POST', `/_electric/entities/${type}/${id}/fork`, '{}'),
    )
  }, 60_000)

  it('bodies that are no objects are refused', async () => {
    await refusesAll(forker.wire, noObject, async (body) => forker.wire.askRaw('POST', '/_electric/entities/chat/root/fork', body))
  }, 60_000)

  it('members of wrong types, odd ids and odd pointers are refused', async () => {
    const body = fc.oneof(
      odd
        .filter((id) => typeof id !== 'string' || !/^[\x21-\x29\x2b-\x2e\x30-\x7e]{1,900}$/.test(id) || /[?%]|^\.\.?$/.test(id))
        .map((instance_id) => ({ instance_id })),
      odd.filter((anchor) => anchor !== 'latest_completed_run').map((anchor) => ({ anchor })),
      odd.map((wait) => ({ waitTimeoutMs: typeof wait === 'number' ? -1 - Math.abs(wait) : wait })),
      odd.map((parent) => ({ parent })),
      odd.map((wake) => ({ wake })),
    )
    await refusesAll(forker.wire, body, async (sent) => await forker.fork('/chat/root', sent), 150)
  }, 120_000)

  it('pointers that point nowhere are refused; what is kept of them is that they were (docs/decisions/0002)', async () => {
    const pointers = fc.record({ offset: odd, sub_offset: odd }).filter(({ offset, sub_offset }) => !(offset === null && sub_offset === 1))
    const before = await forker.leftovers()

    await neverFails(pointers, async (fork_pointer) => {
      const answer = await forker.fork('/chat/root', { fork_pointer })
      if (answer.status < 400) throw new Error(`answered ${answer.status}`)
      return answer
    })

    expect(await forker.leftovers()).toEqual(before)
  }, 60_000)

  it('first messages and tags never make it fail', async () => {
    const body = fc.record({ initialMessage: fc.jsonValue(), tags: fc.dictionary(fc.string(), fc.string(), { maxKeys: 4 }) })
    await neverFails(body, async (sent) => await forker.fork('/chat/root', sent), 40)
  }, 60_000)
})
