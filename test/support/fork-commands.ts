/** What the model-based test of forks does, in any order, to the server and to the model (fork-model.ts). */
import fc from 'fast-check'
import { atHead, atPointer, behind } from './fork-asks.js'
import { adopted, counted, type Real, suffixOf } from './fork-copies.js'
import { completedRun, created, entriesOf, type ForkModel, itemOf, type ModelEntity, message } from './fork-model.js'
import { childEvent, manifestEvent, rowEvent, runEvent } from './runtime-writer.js'
import { expectStatus, type WireEvent } from './wire.js'

const caller = '/principal/system%3Adev-local'
const json = { headers: { 'content-type': 'application/json' } }
const mostMembers = 12

interface Command {
  readonly check: (model: ForkModel) => boolean
  readonly run: (model: ForkModel, real: Real) => Promise<void>
  readonly toString: () => string
}

const command = (name: string, isPossible: (model: ForkModel) => boolean, run: Command['run']): Command => ({
  check: isPossible,
  run,
  toString: () => name,
})

const living = (model: ForkModel) => [...model.entities.values()].filter(({ isKilled }) => !isKilled)
const pick = <One>(all: readonly One[], nth: number): One => all[nth % all.length] as One // the commands see to it that there is one
const some = (model: ForkModel) => model.entities.size > 0
const someLiving = (model: ForkModel) => living(model).length > 0
const many = <One>(one: One, times: number): One[] => Array.from({ length: times }, () => one)
const index = fc.nat({ max: 99 })

/** What a runtime writes, as events and as items. */
async function written(real: Real, entity: ModelEntity, events: readonly ReturnType<typeof rowEvent>[]): Promise<void> {
  await real.forker.writer.append(entity.url, ...events)
  entity.entries = [...entity.entries, events.map((event) => itemOf(event as WireEvent))]
}

interface Spawning {
  readonly parent?: ModelEntity | undefined
  readonly isListed: boolean
  readonly names: number
  readonly first: unknown
}

/** An entity, and in its parent's manifest what a runtime writes of it. */
async function spawned(model: ForkModel, real: Real, { parent, isListed, names, first }: Spawning): Promise<ModelEntity> {
  const { forker } = real
  const type = parent === undefined ? 'chat' : 'worker'
  const named = [...model.entities.keys(), ...model.boards.keys(), 'nobody']
  const [peer, main, state] = [0, 1, 2].map((more) => pick(named, names + more))
  const args = { peer, deep: [{ main: `${main}/main`, state: `/_electric/shared-state/${state}`, text: `see ${peer}` }] }
  const entity = { url: `/${type}/${forker.id('e')}`, type, parent: parent?.url, args, isKilled: false }
  const body = { args, ...(parent === undefined ? {} : { parent: parent.url }), ...(first === null ? {} : { initialMessage: first }) }
  await forker.wire.spawned(entity.url, body)
  const entries = entriesOf(await forker.wire.events(entity.url))
  const messages = first === null ? [] : [message(first, caller)]
  expect(entries.flat()).toEqual([created(entity), ...messages]) // how they are put into entries is the spawn's affair
  const made = { ...entity, entries }
  model.entities.set(entity.url, made)
  if (parent !== undefined && isListed) await written(real, parent, [childEvent(entity.url)])
  return made
}

/** A shared state, in the manifest of the one who made it. */
async function shared(model: ForkModel, real: Real, owner: ModelEntity): Promise<void> {
  const id = real.forker.id('board')
  expectStatus(201, await real.forker.wire.ask('PUT', `/_electric/shared-state/${id}`, undefined, json))
  model.boards.set(id, [])
  await written(real, owner, [manifestEvent(`shared-state:${id}`, { kind: 'shared-state', id, mode: 'create', collections: {} })])
}

/** What every run begins with: somebody to fork who has something of everything. */
export async function begun(model: ForkModel, real: Real): Promise<void> {
  const root = await spawned(model, real, { isListed: false, names: 0, first: 'hello' })
  const child = await spawned(model, real, { parent: root, isListed: true, names: 0, first: null })
  await shared(model, real, root)
  const about = { entity_url: child.url, entity_type: 'worker', status: 'idle' }
  await written(real, root, [rowEvent('child_status', child.url, about), runEvent('r0', 'started'), runEvent('r0', 'completed')])
  await written(real, root, [rowEvent('replay_watermark', child.url, { key: child.url, source_id: child.url, offset: '1' })])
}

const spawn = fc
  .record({ below: fc.option(index), isListed: fc.boolean(), names: index, first: fc.option(fc.jsonValue({ maxDepth: 1 })) })
  .map(({ below, isListed, names, first }) =>
    command(
      `spawn(${below}, ${isListed ? 'listed' : 'unlisted'})`,
      () => true,
      async (model, real) => {
        const possible = living(model).filter((one) => model.subtree(one).length < 4)
        const parent = below === null || possible.length === 0 ? undefined : pick(possible, below)
        await spawned(model, real, { parent, isListed, names, first })
      },
    ),
  )

const send = fc.tuple(index, fc.jsonValue({ maxDepth: 1 })).map(([whom, payload]) =>
  command(`send(${whom})`, some, async (model, { forker }) => {
    const entity = pick([...model.entities.values()], whom)
    expectStatus(entity.isKilled ? 409 : 200, await forker.wire.send(entity.url, { payload }))
    if (!entity.isKilled) entity.entries = [...entity.entries, [message(payload, caller)]]
  }),
)

/** One event of a runtime; keys collide now and then. */
const event = fc.record({
  kind: fc.constantFrom(
    'text',
    'started',
    'completed',
    'completed',
    'completed',
    'completed',
    'effect',
    'gone',
    'child',
    'unlisted',
    'status',
    'watermark',
  ),
  at: fc.nat({ max: 3 }),
  value: index,
})
const append = fc.tuple(index, fc.array(event, { minLength: 1, maxLength: 4 })).map(([whose, drawn]) =>
  command(`append(${whose}, ${drawn.map(({ kind }) => kind).join(' ')})`, someLiving, async (model, real) => {
    const parents = living(model).filter(({ url }) => model.children(url).length > 0)
    const entity = pick(whose % 2 === 0 || parents.length === 0 ? living(model) : parents, whose)
    const children = model.children(entity.url)
    const child = (nth: number) => (children.length === 0 ? '/worker/nobody' : pick(children, nth).url)
    const events = drawn.map(({ kind, at, value }) => {
      switch (kind) {
        case 'started':
        case 'completed':
          return runEvent(`r${at}`, kind)
        case 'effect':
          return manifestEvent(`effect:${at}`, { kind: 'effect', id: String(at), value, entity_url: entity.url }, 'upsert')
        case 'gone':
          return rowEvent('manifest', `effect:${at}`, undefined, 'delete')
        case 'child':
          return childEvent(child(value))
        case 'unlisted':
          return rowEvent('manifest', childEvent(child(value)).key, undefined, 'delete')
        case 'status':
          return rowEvent(
            'child_status',
            child(value),
            { entity_url: child(value), entity_type: 'worker', status: 'idle', value },
            'upsert',
          )
        case 'watermark':
          return rowEvent('replay_watermark', child(value), { key: child(value), source_id: child(value), offset: String(value) }, 'upsert')
        default:
          return rowEvent('text', `t${at}`, { value })
      }
    })
    await written(real, entity, events)
  }),
)

const board = index.map((whose) =>
  command(`board(${whose})`, someLiving, async (model, real) => await shared(model, real, pick(living(model), whose))),
)

const note = fc.tuple(index, index).map(([nth, text]) =>
  command(
    `note(${nth})`,
    ({ boards }) => boards.size > 0,
    async (model, { forker }) => {
      const [id, notes] = pick([...model.boards], nth)
      expectStatus(
        204,
        await forker.wire.ask('POST', `/_electric/shared-state/${id}`, rowEvent('note', String(notes.length), { text }), json),
      )
      model.boards.set(id, [...notes, String(text)])
    },
  ),
)

/** Whoever lives, but for the first ones, whose forks would all be refused. */
const mortal = (model: ForkModel) => living(model).slice(2)
const kill = index.map((whom) =>
  command(
    `kill(${whom})`,
    (model) => mortal(model).length > 0,
    async (model, { forker }) => {
      const entity = pick(mortal(model), whom)
      expectStatus(200, await forker.wire.kill(entity.url))
      entity.entries = [...entity.entries, [{ type: 'signal', operation: 'insert', value: { signal: 'SIGKILL' } }]]
      entity.isKilled = true
    },
  ),
)

const read = index.map((whom) =>
  command(`read(${whom})`, some, async (model, real) => {
    const entity = pick([...model.entities.values()], whom)
    await real.read(entity)
    const rows = new Map([...(await real.forker.projected(entity.url))])
    expect(rows).toEqual(await real.forker.manifest(entity.url))
  }),
)

const fork = fc
  .record({
    whom: index,
    how: fc.oneof({ weight: 2, arbitrary: fc.constant('head') }, fc.constant('anchor'), {
      weight: 2,
      arbitrary: fc.tuple(index, fc.nat({ max: 2 })),
    }),
    isNamed: fc.boolean(),
    below: fc.option(index, { freq: 3 }),
    first: fc.option(fc.jsonValue({ maxDepth: 1 }), { freq: 3 }),
  })
  .map(({ whom, how, isNamed, below, first }) =>
    command(
      `fork(${whom}, ${how}${isNamed ? ', named' : ''}${below === null ? '' : `, below ${below}`})`,
      (model) => some(model) && model.entities.size < 40,
      async (model, real) => {
        const small = [...model.entities.values()].filter((one) => model.subtree(one).length <= mostMembers)
        const roots = small.filter(({ parent, isKilled }) => parent === undefined && !isKilled)
        const root = pick(whom % 6 === 5 || roots.length === 0 ? small : roots, whom)
        const { body, cut, refused } =
          how === 'head'
            ? atHead(model, root)
            : how === 'anchor'
              ? behind(model, root, { anchor: 'latest_completed_run' }, completedRun(root.entries))
              : await atPointer(model, real, root, ...(how as [number, number]))
        const size = model.subtree(root).length
        const possible = living(model).filter(
          (one) => one.parent === undefined && one !== root && model.subtree(one).length + size <= mostMembers / 2,
        )
        const parent = below === null || possible.length === 0 ? undefined : pick(possible, below).url
        const id = isNamed ? real.forker.id('named') : undefined
        const asks = {
          ...body,
          ...(id === undefined ? {} : { instance_id: id }),
          ...(parent === undefined ? {} : { parent }),
          ...(first === null ? {} : { initialMessage: first }),
        }
        if (refused !== undefined) {
          expect(await real.forker.fork(root.url, asks)).toMatchObject(refused)
          real.seen.refused += 1
          return
        }
        const copies = await real.forker.forked(root.url, asks)
        const messages = first === null ? [] : [message(first, parent ?? caller)]
        const url = id === undefined ? copies.root.url : `/${root.type}/${id}`
        expect(copies.root.url).toBe(url)
        if (id === undefined) expect(url.slice(0, -8)).toBe(`${root.url}-fork-`)
        const expected = model.fork(root, cut, { url, parent }, await suffixOf(real, copies, root.url, id !== undefined))
        await adopted(model, real, copies, expected, messages)
        counted(real.seen, root, how, expected)
      },
    ),
  )

/** Weighted: kills are rare, since after them little is left to fork. */
export const forkCommands = () => [
  ...many(spawn, 3),
  ...many(append, 8),
  ...many(send, 2),
  ...many(board, 2),
  ...many(note, 2),
  ...many(fork, 8),
  ...many(read, 2),
  kill,
]
