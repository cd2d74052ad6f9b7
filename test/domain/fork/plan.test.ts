import type { JsonObject } from '../../../src/domain/entity.js'
import type { StateEvent } from '../../../src/domain/events.js'
import { breadthFirst, effectiveMembers, type ForkFindings, type ForkMember, planFork } from '../../../src/domain/fork/plan.js'
import type { SnapshotRow } from '../../../src/domain/fork/remapping.js'
import { keptItems, reducedSnapshot, snapshotRow } from '../../../src/domain/fork/snapshot.js'
import { type EntityUrl, offsetOf, type PrincipalUrl } from '../../../src/domain/ids.js'

const sam = '/principal/user%3Asam' as PrincipalUrl
const atMs = Date.parse('2026-11-22T09:36:05.527Z')
const member = (url: string, parent: string | null = null, more: Partial<ForkMember> = {}): ForkMember => ({
  url: url as EntityUrl,
  type: url.split('/')[1] ?? '',
  parent: parent as EntityUrl | null,
  status: 'idle',
  tags: {},
  spawn_args: {},
  dispatch_policy: null,
  ...more,
})
const row = (type: SnapshotRow['type'], key: string, value: JsonObject): SnapshotRow => ({ type, key, value })
const manifest = (key: string, value: JsonObject) => row('manifest', key, { key, ...value })
const childRow = (id: string, more: JsonObject = {}) =>
  manifest(`child:worker:${id}`, { kind: 'child', id, entity_type: 'worker', entity_url: `/worker/${id}`, observed: true, ...more })

const root = member('/chat/root')
const kid = member('/worker/kid', '/chat/root')

function plan(rows: Readonly<Record<string, readonly SnapshotRow[]>>, more: Partial<ForkFindings> = {}) {
  return planFork({
    members: [root, kid],
    rows: new Map(Object.entries(rows)),
    rootUrl: null,
    suffix: 'dffd13a6',
    taken: { urls: new Set(), sharedStates: new Set() },
    parent: null,
    tags: {},
    createdBy: sam,
    atMs,
    seed: 'operation/0',
    ...more,
  })
}

const plain = (event: StateEvent) => ({ type: event.type, key: event.key, value: event.value, operation: event.headers.operation })
/** What one row of the root is told to become. */
const said = (only: SnapshotRow) =>
  (plan({ '/chat/root': [only, manifest('shared-state:board', { kind: 'shared-state', id: 'board' })] }).copies[0]?.events ?? [])
    .slice(1)
    .map(plain)
    .filter(({ key }) => !key.startsWith('shared-state:'))

describe('a copy begins its own history', () => {
  it('with entity_created, whose headers say whose copy it is (spec/04 §16.1)', () => {
    const { copies } = plan({}, { parent: '/chat/parent' as EntityUrl, members: [member('/chat/root', null, { spawn_args: { a: 1 } })] })

    expect(copies[0]?.events).toEqual([
      {
        type: 'entity_created',
        key: 'entity-created',
        value: { entity_type: 'chat', timestamp: '2026-11-22T09:36:05.527Z', args: { a: 1 }, parent_url: '/chat/parent' },
        headers: { txid: expect.stringMatching(/^fork-[0-9a-f-]{36}$/), forkedFrom: '/chat/root', operation: 'update' },
      },
    ])
  })

  it('with one txid for each entity, and manifest rows before statuses before watermarks', () => {
    const { copies } = plan({
      '/chat/root': [
        row('replay_watermark', '/worker/kid', { source_id: '/worker/kid', offset: '5' }),
        row('child_status', '/worker/kid', { entity_url: '/worker/kid', entity_type: 'worker', status: 'idle' }),
        childRow('kid'),
      ],
    })
    const [ofRoot, ofKid] = copies.map(({ events }) => events)

    expect(ofRoot?.map(({ type, headers }) => `${type} ${headers.operation}`)).toEqual([
      'entity_created update',
      'manifest delete',
      'manifest insert',
      'child_status update',
      'replay_watermark delete',
      'replay_watermark insert',
    ])
    expect(new Set(ofRoot?.map(({ headers }) => headers.txid)).size).toBe(1)
    expect(ofRoot?.[0]?.headers.txid).not.toBe(ofKid?.[0]?.headers.txid)
    expect(ofKid?.every(({ headers }) => headers.forkedFrom === '/worker/kid')).toBe(true)
  })

  it('with the example of spec/04 §16.2', () => {
    const [copy] = plan({ '/chat/root': [childRow('kid', { wake: 'runFinished' })] }).copies

    expect(copy?.events.slice(1).map(plain)).toEqual([
      { type: 'manifest', key: 'child:worker:kid', value: undefined, operation: 'delete' },
      {
        type: 'manifest',
        key: 'child:worker:kid-fork-dffd13a6',
        operation: 'insert',
        value: {
          key: 'child:worker:kid-fork-dffd13a6',
          kind: 'child',
          id: 'kid-fork-dffd13a6',
          entity_type: 'worker',
          entity_url: '/worker/kid-fork-dffd13a6',
          observed: true,
          wake: 'runFinished',
        },
      },
    ])
  })

  it('with the example of spec/04 §16.3', () => {
    const status = { entity_url: '/worker/kid', entity_type: 'worker', status: 'idle' }

    expect(said(row('child_status', '/worker/kid', status))).toEqual([
      {
        type: 'child_status',
        key: '/worker/kid',
        operation: 'update',
        value: { entity_url: '/worker/kid-fork-dffd13a6', entity_type: 'worker', status: 'idle' },
      },
    ])
  })
})

describe('manifest rows change where they name what is copied (spec/04 §16.2)', () => {
  const fork = '/worker/kid-fork-dffd13a6'
  it.each([
    [
      'shared state',
      manifest('shared-state:board', { kind: 'shared-state', id: 'board', mode: 'create', collections: {} }),
      'shared-state:board-fork-dffd13a6',
      { kind: 'shared-state', id: 'board-fork-dffd13a6', mode: 'create', collections: {} },
    ],
    [
      'an observed entity',
      manifest('source:entity:/worker/kid', {
        kind: 'source',
        sourceType: 'entity',
        sourceRef: '/worker/kid',
        config: { entityUrl: '/worker/kid', other: 1 },
        wake: 'runFinished',
      }),
      `source:entity:${fork}`,
      {
        kind: 'source',
        sourceType: 'entity',
        sourceRef: fork,
        config: { entityUrl: fork, streamPath: `${fork}/main`, entityType: 'worker', other: 1 },
        wake: 'runFinished',
      },
    ],
    [
      'an observed shared state',
      manifest('source:db:board', { kind: 'source', sourceType: 'db', sourceRef: 'board', config: { id: 'board', collections: {} } }),
      'source:db:board-fork-dffd13a6',
      { kind: 'source', sourceType: 'db', sourceRef: 'board-fork-dffd13a6', config: { id: 'board-fork-dffd13a6', collections: {} } },
    ],
  ])('under a new key: %s', (_, before, key, value) => {
    const [copy] = plan({ '/chat/root': [before, childRow('kid')] }).copies
    const events = copy?.events.map(plain) ?? []

    expect(events).toContainEqual({ type: 'manifest', key: before.key, value: undefined, operation: 'delete' })
    expect(events).toContainEqual({ type: 'manifest', key, value: { key, ...value }, operation: 'insert' })
    expect(copy?.rows.map((kept) => kept.key)).toContain(key)
    expect(copy?.rows.map((kept) => kept.key)).not.toContain(before.key)
  })

  it.each([
    [
      'an attachment',
      manifest('attachment:a', { kind: 'attachment', id: 'a', streamPath: '/chat/root/attachments/a', status: 'complete' }),
      { streamPath: '/chat/root-fork-dffd13a6/attachments/a' },
    ],
    [
      'a future send to a copy',
      manifest('schedule:s', {
        kind: 'schedule',
        id: 's',
        scheduleType: 'future_send',
        targetUrl: '/worker/kid',
        senderUrl: '/chat/root',
        producerId: 'p',
        fireAt: 'x',
      }),
      { targetUrl: fork, senderUrl: '/chat/root-fork-dffd13a6' },
    ],
    [
      'a future send from a copy',
      manifest('schedule:s', { kind: 'schedule', scheduleType: 'future_send', targetUrl: '/chat/other', senderUrl: '/worker/kid' }),
      { senderUrl: fork },
    ],
  ])('under the same key: %s', (_, before, changes) => {
    expect(said(before)).toEqual([{ type: 'manifest', key: before.key, value: { ...before.value, ...changes }, operation: 'update' }])
  })

  it.each([
    ['a cron schedule', { kind: 'schedule', scheduleType: 'cron', expression: '* * * * *', payload: '/worker/kid' }],
    ['a future send between others', { kind: 'schedule', scheduleType: 'future_send', targetUrl: '/a/b', senderUrl: '/a/c' }],
    ['a cron source', { kind: 'source', sourceType: 'cron', sourceRef: '/worker/kid' }],
    ['an effect', { kind: 'effect', config: { entityUrl: '/worker/kid' } }],
    ['a context', { kind: 'context', content: '/worker/kid' }],
    ['a goal', { kind: 'goal', objective: '/worker/kid' }],
    ['another child', { kind: 'child', id: 'x', entity_type: 'worker', entity_url: '/worker/x' }],
    ['another shared state', { kind: 'effect', id: 'board' }],
    ['an attachment of somebody else', { kind: 'attachment', id: 'a', streamPath: '/chat/other/attachments/a' }],
    ['an unknown kind', { kind: 'toString', entity_url: '/worker/kid' }],
    ['no kind', { id: 'board' }],
  ])('and not where they do not: %s', (_, value) => {
    expect(said(manifest('k', value))).toEqual([])
  })
})

it('arguments are remapped where a value is equal, never in keys or within strings (spec/04 §12)', () => {
  const spawn_args = {
    peer: '/worker/kid',
    deep: [{ s: 'board', not: 'see /worker/kid', '/worker/kid': 1 }],
    main: '/worker/kid/main',
    state: '/_electric/shared-state/board',
  }
  const { copies } = plan(
    { '/worker/kid': [manifest('shared-state:board', { kind: 'shared-state', id: 'board' })] },
    { members: [member('/chat/root', null, { spawn_args }), kid] },
  )

  expect(copies[0]?.spawn_args).toEqual({
    peer: '/worker/kid-fork-dffd13a6',
    deep: [{ s: 'board-fork-dffd13a6', not: 'see /worker/kid', '/worker/kid': 1 }],
    main: '/worker/kid-fork-dffd13a6/main',
    state: '/_electric/shared-state/board-fork-dffd13a6',
  })
})

describe('a plan', () => {
  it('names copies once each, and counts on where a name is taken', () => {
    const members = [root, member('/worker/a', '/chat/root'), member('/worker/b', '/worker/a')]
    const { copies } = plan(
      {},
      { members, rootUrl: '/chat/mine' as EntityUrl, taken: { urls: new Set(['/worker/a-fork-dffd13a6']), sharedStates: new Set() } },
    )

    expect(copies.map(({ url, parent }) => [url, parent])).toEqual([
      ['/chat/mine', null],
      ['/worker/a-fork-dffd13a6-1', '/chat/mine'],
      ['/worker/b-fork-dffd13a6', '/worker/a-fork-dffd13a6-1'],
    ])
  })

  it('keeps tags, those of the request win on the root', () => {
    const members = [member('/chat/root', null, { tags: { a: '1', b: '1' } }), member('/worker/kid', '/chat/root', { tags: { k: '1' } })]

    expect(plan({}, { members, tags: { b: '2', c: '2' } }).copies.map(({ tags }) => tags)).toEqual([{ a: '1', b: '2', c: '2' }, { k: '1' }])
  })

  it('copies shared state that anybody in it names, each once; and attachments at the paths of their owners only', () => {
    const { sharedStates, attachments } = plan({
      '/chat/root': [
        manifest('source:db:b', { kind: 'source', sourceType: 'db', sourceRef: 'b', config: { id: 'c' } }),
        manifest('attachment:x', { kind: 'attachment', id: 'x', streamPath: '/chat/root/attachments/x' }),
        manifest('attachment:y', { kind: 'attachment', id: 'y', streamPath: '/chat/secret/attachments/y' }),
        manifest('attachment:z', { kind: 'attachment', id: 'z', streamPath: '/chat/root/attachments/other' }),
      ],
      '/worker/kid': [
        manifest('shared-state:b', { kind: 'shared-state', id: 'b' }),
        manifest('shared-state:a b', { kind: 'shared-state', id: 'a b' }),
      ],
    })

    expect(sharedStates.map(({ from, path }) => [from, path])).toEqual([
      ['/_electric/shared-state/a%20b', '/_electric/shared-state/a%20b-fork-dffd13a6'],
      ['/_electric/shared-state/b', '/_electric/shared-state/b-fork-dffd13a6'],
      ['/_electric/shared-state/c', '/_electric/shared-state/c-fork-dffd13a6'],
    ])
    expect(attachments).toEqual([{ from: '/chat/root/attachments/x', path: '/chat/root-fork-dffd13a6/attachments/x' }])
  })

  it('copies each stream once, however often and under whatever spellings it is named', () => {
    const { sharedStates, attachments } = plan({
      '/chat/root': [
        manifest('a', { kind: 'attachment', id: 'x', streamPath: '/chat/root/attachments/x' }),
        manifest('b', { kind: 'attachment', id: 'x', streamPath: '/chat/root/attachments/x' }),
        manifest('source:db:b', { kind: 'source', sourceType: 'db', sourceRef: 'a%20b', config: { id: 'a b' } }),
      ],
    })

    expect(attachments).toHaveLength(1)
    expect(sharedStates.map(({ path }) => path)).toEqual([
      '/_electric/shared-state/a%20b-fork-dffd13a6',
      '/_electric/shared-state/a%2520b-fork-dffd13a6',
    ])
  })

  it('says the first message like a send of the caller, or of the parent', () => {
    const message = (parent: EntityUrl | null) =>
      plan({}, { initialMessage: { payload: null }, parent }).copies.map((copy) => copy.message?.value)

    expect(message(null)).toEqual([
      { from: sam, payload: null, mode: 'immediate', status: 'processed', timestamp: expect.any(String), processed_at: expect.any(String) },
      undefined,
    ])
    expect(message('/chat/parent' as EntityUrl)[0]).toMatchObject({ from: '/chat/parent' })
  })
})

describe('behind a cut', () => {
  const members = [
    root,
    kid,
    member('/worker/late', '/chat/root'),
    member('/worker/below', '/worker/kid'),
    member('/worker/lost', '/worker/late'),
  ]

  it('only children of the kept manifest are copied, with all that is below them (spec/04 §7)', () => {
    const kept = effectiveMembers(members, [childRow('kid'), childRow('stranger')])

    expect(kept.map(({ url }) => url)).toEqual(['/chat/root', '/worker/kid', '/worker/below'])
    expect(effectiveMembers(members, null)).toEqual(members)
  })

  it('the root is what its kept items say', () => {
    const set = (entry: number, key: string, operation: string, value?: JsonObject) => ({
      entry: offsetOf(entry),
      item: { type: 'manifest', key, headers: { operation }, ...(value === undefined ? {} : { value }) },
    })
    const items = [set(1, 'a', 'insert', { n: 1 }), set(2, 'b', 'insert', { n: 1 }), set(3, 'a', 'delete'), set(3, 'b', 'update', { n: 2 })]
    const rowsAt = (after: number, ofNext: number) =>
      reducedSnapshot(keptItems(items, { after: offsetOf(after), items: ofNext })).map(({ key, value }) => [key, value.n])

    expect(rowsAt(2, 0)).toEqual([
      ['a', 1],
      ['b', 1],
    ])
    expect(rowsAt(2, 1)).toEqual([['b', 1]])
    expect(rowsAt(3, 0)).toEqual([['b', 2]])
    expect(rowsAt(0, 0)).toEqual([])
  })

  it('members come root first, then breadth-first, as they stand within a level', () => {
    const shuffled = [members[3], members[0], members[2], members[4], members[1]].filter((one) => one !== undefined)

    expect(breadthFirst('/chat/root' as EntityUrl, shuffled).map(({ url }) => url)).toEqual([
      '/chat/root',
      '/worker/late',
      '/worker/kid',
      '/worker/lost',
      '/worker/below',
    ])
  })
})

it('a stored row has the key that its event had, also one that Postgres cannot hold', () => {
  expect(snapshotRow('manifest', '"a\\u0000"', '{"key":"a\\u0000"}').key).toBe('a\0')
  expect(snapshotRow('manifest', 'a', '{"key":"other"}').key).toBe('a')
})
