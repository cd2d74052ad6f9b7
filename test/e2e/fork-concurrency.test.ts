/** Forks of what is used meanwhile: each is what stood at one instant, all of it or nothing (docs/decisions/0012). In both stream modes. */
import { type Copies, Forker } from '../support/forker.js'
import { HandRunner } from '../support/hand-runner.js'
import { childEvent, manifestEvent, runEvent } from '../support/runtime-writer.js'
import { expectStatus, refusal, type WireEvent } from '../support/wire.js'

const times = <Result>(count: number, work: (nth: number) => Promise<Result>) =>
  Promise.all(Array.from({ length: count }, (_, nth) => work(nth)))

describe.each(['postgres', 'http'] as const)('with streams in %s,', (streams) => {
  let forker: Forker
  beforeAll(async () => {
    forker = await Forker.start({ streams })
  })
  afterAll(async () => await forker.stop())

  const payloads = (events: readonly WireEvent[]) => events.flatMap(({ type, value }) => (type === 'inbox' ? [Number(value?.payload)] : []))
  const copyOf = (copies: Copies, source: string) => copies.entities.find(({ url }) => url.startsWith(`${source}-fork-`))?.url ?? ''
  const ended = (url: string) => ({ status: 409, body: refusal('NOT_RUNNING', `Cannot fork terminal entity "${url}"`) })
  const terminal = async (url: string) => (await forker.wire.events(url)).filter(({ type }) => type === 'signal')
  /** What must not outlive any fork. */
  const held = async () => {
    const { waiters, signals, locks } = await forker.leftovers()
    return { waiters, signals, locks }
  }

  it('forks of overlapping subtrees at once are all made, each complete and under names of its own', async () => {
    const [one, other] = [await forker.root({ initialMessage: 1 }), await forker.root()]
    const [kid, board] = [await forker.child(one), forker.id('board')]
    const below = await forker.child(kid)
    const json = { headers: { 'content-type': 'application/json' } }
    expectStatus(201, await forker.wire.ask('PUT', `/_electric/shared-state/${board}`, undefined, json))
    for (const root of [one, other])
      await forker.writer.append(
        root,
        manifestEvent(`shared-state:${board}`, { kind: 'shared-state', id: board, mode: 'create', collections: {} }),
      )
    const pointer = { fork_pointer: { offset: null, sub_offset: 1 } }

    const [whole, cut, others] = await Promise.all([
      times(6, async () => await forker.forked(one)),
      times(3, async () => await forker.forked(one, pointer)),
      times(3, async () => await forker.forked(other)),
    ])

    const all = [...whole, ...cut, ...others]
    expect(all.map(({ entities }) => entities.length)).toEqual([3, 3, 3, 3, 3, 3, 1, 1, 1, 1, 1, 1])
    expect(new Set(all.flatMap(({ entities }) => entities.map(({ url }) => url))).size).toBe(24)
    for (const copies of whole)
      for (const source of [one, kid, below])
        expect(await forker.inherited(copyOf(copies, source))).toEqual(await forker.wire.events(source))
    const boards = [...whole, ...others].map(({ root }) => `/_electric/shared-state/${board}-fork-${root.url.slice(-8)}?offset=-1`)
    expect(new Set(await Promise.all(boards.map(async (path) => (await forker.wire.ask('GET', path)).status)))).toEqual(new Set([200]))
    expect(await held()).toEqual({ waiters: 0, signals: 0, locks: 0 })
  })

  it('a subtree that is spawned into, written to and signalled meanwhile is copied as it stood at one instant', async () => {
    const root = await forker.root()
    const kid = await forker.child(root)
    let isForking = true
    let sent = 0
    const talk = async () => {
      for (; isForking; sent += 1) for (const url of [root, kid]) expectStatus(200, await forker.wire.send(url, { payload: sent }))
    }
    const spawn = async () => {
      for (let nth = 0; isForking && nth < 12; nth += 1) {
        const url = `/worker/${forker.id('late')}`
        await forker.wire.spawned(url, { parent: root })
        await forker.writer.append(root, childEvent(url)) // a copy that knows of it has it
      }
    }
    const signal = async () => {
      for (; isForking; ) for (const name of ['SIGSTOP', 'SIGCONT']) expectStatus(200, await forker.wire.signal(kid, { signal: name }))
    }
    const meanwhile = Promise.all(streams === 'postgres' ? [talk(), spawn(), signal()] : [talk()])

    const forks: Copies[] = []
    for (let nth = 0; nth < 4; nth += 1) forks.push(...(await times(2, async () => await forker.forked(root))))
    isForking = false
    await meanwhile

    const [rootNow, kidNow] = [await forker.wire.events(root), await forker.wire.events(kid)]
    for (const copies of forks) {
      const [rootThen, kidThen] = [await forker.inherited(copies.root.url), await forker.inherited(copyOf(copies, kid))]
      expect(rootThen).toEqual(rootNow.slice(0, rootThen.length))
      expect(kidThen).toEqual(kidNow.slice(0, kidThen.length))
      const [toRoot, toKid] = [payloads(rootThen).length, payloads(kidThen).length]
      expect([toRoot, toRoot - 1]).toContain(toKid) // who is written to second has no message that the first one has not
      const known = [...(await forker.manifest(copies.root.url)).values()].map((row) => (row as { entity_url: string }).entity_url)
      expect(copies.entities.map(({ url }) => url)).toEqual(expect.arrayContaining(known))
      expect(await forker.projected(copies.root.url)).toEqual(await forker.manifest(copies.root.url))
      expect(copies.entities.map(({ status }) => status)).toEqual(copies.entities.map(() => 'idle'))
    }
    expect(payloads(rootNow)).toEqual(Array.from({ length: sent }, (_, nth) => nth))
    expect(payloads(kidNow)).toEqual(payloads(rootNow))
    expect(await held()).toEqual({ waiters: 0, signals: 0, locks: 0 })
  })

  describe('whose tags, rows and attachments change meanwhile', () => {
    const collections = { notes: { type: 'note', operations: ['insert'] } }
    beforeAll(async () => {
      await forker.wire.register('open', { externally_writable_collections: collections })
    })

    const notes = (events: readonly WireEvent[]) => events.flatMap(({ type, value }) => (type === 'note' ? [value?.nth] : []))
    const lastTag = (events: readonly WireEvent[]) => Number(events.findLast(({ type }) => type === 'tags')?.value?.value ?? -1)
    const tagOf = ({ tags }: Copies['root']) => Number((tags as { readonly n?: string }).n ?? -1)
    /** On a foreign stream server the event of a tag follows its row: a copy may have the one, and not yet the other (activities/foreign-forks.ts). */
    const ahead = streams === 'postgres' ? [0] : [0, 1]
    const upTo = (count: number) => Array.from({ length: count }, (_, nth) => nth)

    /** Changes everything of `url` that does not need its runtime, again and again. What was written when it ends. */
    async function changing(url: string, goesOn: () => boolean): Promise<{ readonly rounds: number; readonly removed: readonly string[] }> {
      const of = `/_electric/entities${url}`
      const removed: string[] = []
      let rounds = 0
      for (; goesOn(); rounds += 1) {
        expectStatus(200, await forker.wire.send(url, { payload: rounds }))
        expectStatus(200, await forker.wire.ask('POST', `${of}/tags/n`, { value: String(rounds) }))
        expectStatus(201, await forker.wire.ask('POST', `${of}/collections/notes`, { operation: 'insert', value: { nth: rounds } }))
        await forker.attach(url, `a${rounds}`)
        const removal = await forker.wire.ask('DELETE', `${of}/attachments/a${rounds - 1}`)
        if (removal.status === 200) removed.push(`a${rounds - 1}`)
        else if (rounds > 0)
          expect(removal).toMatchObject({ status: 409, body: refusal('FORK_IN_PROGRESS', 'Entity subtree is being forked') })
      }
      return { rounds, removed }
    }

    /** Every attachment that the manifest of `url` names is there. */
    async function expectAttachments(url: string): Promise<void> {
      const ids = [...(await forker.manifest(url)).keys()].flatMap((key) =>
        key.startsWith('attachment:') ? [key.slice('attachment:'.length)] : [],
      )
      for (const id of ids) expect([id, (await forker.attachment(url, id)).text]).toEqual([id, `bytes of ${id}`])
    }

    it('is copied as it stood at one instant', async () => {
      const root = await forker.root({}, 'open')
      let isForking = true
      const meanwhile = changing(root, () => isForking)

      const forks: Copies[] = []
      for (let nth = 0; nth < 5; nth += 1) forks.push(...(await times(2, async () => await forker.forked(root))))
      isForking = false
      const { rounds, removed } = await meanwhile

      const now = await forker.wire.events(root)
      expect([payloads(now), notes(now)]).toEqual([upTo(rounds), upTo(rounds)])
      for (const { root: copy } of forks) {
        const then = await forker.inherited(copy.url)
        expect(then).toEqual(now.slice(0, then.length))
        expect(ahead).toContain(tagOf(copy) - lastTag(then))
        expect(await forker.projected(copy.url)).toEqual(await forker.manifest(copy.url))
        await expectAttachments(copy.url)
      }
      await expectAttachments(root)
      expect(rounds).toBeGreaterThan(1)
      if (streams === 'postgres') expect(removed).toHaveLength(rounds - 1)
      expect(await held()).toEqual({ waiters: 0, signals: 0, locks: 0 })
    })

    it('and whose runtime writes, is copied at a pointer as it was there, and nothing that it writes is refused (§13, required of us)', async () => {
      const runner = await HandRunner.start(forker.wire, forker.id('runner'))
      await runner.heartbeat()
      const root = `/open/${forker.id('root')}`
      const wake = await runner.claimed(await runner.woken(root))
      const token = await runner.writeToken(wake)
      expectStatus(204, await runner.append(wake, token, runEvent('r', 'started'), runEvent('r', 'completed')))
      const then = await forker.wire.events(root)
      expect(await forker.wire.statusOf(root)).toBe('running')
      let isForking = true
      let written = 0
      const write = async () => {
        for (; isForking; written += 1)
          expectStatus(204, await runner.append(wake, token, manifestEvent(`effect:${written}`, { kind: 'effect', id: String(written) })))
      }
      const meanwhile = Promise.all([changing(root, () => isForking), write()])

      const forks: Copies[] = []
      for (let nth = 0; nth < 4; nth += 1)
        forks.push(...(await times(2, async () => await forker.forked(root, { anchor: 'latest_completed_run' }))))
      isForking = false
      const [{ rounds }] = await meanwhile

      for (const { root: copy } of forks) expect(await forker.inherited(copy.url)).toEqual(then)
      const now = await forker.wire.events(root)
      expect([payloads(now).slice(1), notes(now)]).toEqual([upTo(rounds), upTo(rounds)])
      const effects = now.flatMap(({ type, key }) =>
        type === 'manifest' && key.startsWith('effect:') ? [Number(key.slice('effect:'.length))] : [],
      )
      expect(effects).toEqual(upTo(written))
      expect(await forker.projected(root)).toEqual(await forker.manifest(root))
      await expectAttachments(root)
      expect(await held()).toEqual({ waiters: 0, signals: 0, locks: 0 })
    })
  })

  it.each(['root', 'child'])(
    'a kill and forks are in some order, where the %s is killed: a fork is whole and alive, or refused',
    async (whose) => {
      const outcomes = await times(6, async (nth) => {
        const root = await forker.root()
        const kid = await forker.child(root)
        const victim = whose === 'root' ? root : kid
        const fork = async () => await forker.fork(root, { waitTimeoutMs: 0 })
        const early = nth % 2 === 0 ? [fork()] : []
        const [killed, ...answers] = await Promise.all([forker.wire.kill(victim), ...early, fork(), fork()])

        expect(killed.status).toBe(200)
        expect(await fork()).toMatchObject(ended(victim)) // whoever hears of the kill is behind it
        for (const answer of answers) {
          if (answer.status !== 201) expect(answer).toMatchObject(ended(victim))
          else
            for (const { url } of (answer.body as Copies).entities) {
              expect([await forker.wire.statusOf(url), await terminal(url)]).toEqual(['idle', []])
              expectStatus(200, await forker.wire.send(url, { payload: 1 }))
            }
        }
        return answers.map(({ status }) => status)
      })

      expect(outcomes.flat().every((status) => status === 201 || status === 409)).toBe(true)
      expect(await held()).toEqual({ waiters: 0, signals: 0, locks: 0 })
    },
  )

  it('of ten forks to one name one is made, and nine leave nothing; nor does it matter whose copies they are', async () => {
    const [one, other] = [await forker.root(), await forker.root()]
    for (const root of [one, other]) await forker.child(root)
    const before = await forker.leftovers()
    const instance_id = forker.id('contested')
    const url = `/chat/${instance_id}`

    const answers = await times(10, async (nth) => await forker.fork(nth % 2 === 0 ? one : other, { instance_id, initialMessage: nth }))

    expect(answers.map(({ status }) => status).sort()).toEqual([201, ...Array.from({ length: 9 }, () => 409)])
    for (const answer of answers.filter(({ status }) => status === 409))
      expect(answer.body).toEqual(refusal('DUPLICATE_URL', `Entity already exists at URL "${url}"`))
    const nth = answers.findIndex(({ status }) => status === 201)
    const own = await forker.ownEvents(url)
    expect(own[0]?.headers.forkedFrom).toBe(nth % 2 === 0 ? one : other)
    expect(payloads(own)).toEqual([nth])
    const { entities, lineage, streams: standing, waiters, signals, locks } = await forker.leftovers()
    expect({ entities, standing }).toEqual({
      entities: Number(before.entities) + 2,
      standing: Number(before.streams) + (streams === 'postgres' ? 2 : 0),
    })
    expect({ lineage, waiters, signals, locks }).toEqual({ lineage: Number(before.lineage) + 3, waiters: 0, signals: 0, locks: 0 })
  })

  it('of spawns and forks to one name one is made', async () => {
    const source = await forker.root()
    const url = `/chat/${forker.id('contested')}`
    const id = url.slice('/chat/'.length)

    const answers = await Promise.all([
      ...Array.from({ length: 4 }, async () => await forker.wire.spawn(url)),
      ...Array.from({ length: 4 }, async () => await forker.fork(source, { instance_id: id })),
    ])

    const made = answers.flatMap(({ status }, nth) => (status === 201 ? [nth] : []))
    expect(made).toHaveLength(1)
    expect(answers.filter(({ status }) => status === 409)).toHaveLength(7)
    expect((await forker.ownEvents(url)).length > 0).toBe((made[0] ?? 0) >= 4)
    expectStatus(200, await forker.wire.send(url, { payload: 1 }))
  })

  it('forks of forks of forks, made while each is written to, read through, from any offset, also when their sources have ended', async () => {
    const source = await forker.root({ initialMessage: 0 })
    const chain = [source]
    for (let depth = 1; depth <= 3; depth += 1) {
      const last = chain.at(-1) ?? source
      const [{ root }] = await Promise.all([forker.forked(last), forker.wire.send(last, { payload: depth })])
      expectStatus(200, await forker.wire.send(root.url, { payload: depth * 10 }))
      chain.push(root.url)
    }
    const before = await Promise.all(chain.map(async (url) => await forker.wire.events(url)))
    for (const url of chain.slice(0, -1)) expectStatus(200, await forker.wire.kill(url))

    for (const [depth, url] of chain.entries()) {
      const events = (await forker.wire.events(url)).filter(({ type }) => type !== 'signal')
      expect(events).toEqual(before[depth])
      const said = payloads(events)
      expect(said.filter((payload) => payload % 10 === 0)).toEqual([0, 10, 20, 30].slice(0, depth + 1))
      if (depth > 0)
        expect(events.slice(0, (await forker.inherited(url)).length)).toEqual(
          before[depth - 1]?.slice(0, (await forker.inherited(url)).length),
        )
      for (const [nth, { headers }] of events.entries()) {
        const { body } = await forker.wire.ask('GET', `${url}/main?offset=${headers.offset}`)
        const rest = (body as readonly WireEvent[]).filter(({ type }) => type !== 'signal')
        expect(rest).toEqual(events.slice(nth).filter((event) => event.headers.offset !== headers.offset))
      }
    }
    expectStatus(200, await forker.wire.send(chain.at(-1) ?? '', { payload: 99 }))
    expect((await forker.forked(chain.at(-1) ?? '')).root.status).toBe('idle')
  })
})
