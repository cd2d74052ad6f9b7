/**
 * Load of forks on a house, and the ledger of it.
 *
 * F1  Every fork has an `Idempotency-Key`, so all of its names are known before it is asked for: what is not acknowledged can be looked for.
 * F2  A caller has one fork under way at a time, of a source of its own; the sources are complete before the load begins.
 *     One that goes on after a loss asks for the same fork until it has its answer.
 * F3  A fork that waits does so for a child that is put to work before it is asked for, and rests once it is known to be waited for.
 */
import { createHash } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { forkSuffix } from '../../src/domain/fork/names.js'
import { eventually } from '../support/eventually.js'
import { childEvent, manifestEvent, RuntimeWriter, rowEvent, runEvent } from '../support/runtime-writer.js'
import { expectStatus, type Wire } from '../support/wire.js'
import { type Entry, json, type LoadOptions, outcomeOf } from './ledger.js'

/** A root with two children, a shared state and an attachment; it has run once, and something came afterwards. */
export interface Original {
  readonly url: string
  readonly kids: readonly string[]
  readonly board: string
}

export const attachmentId = 'file'
export const attachmentText = 'the attachment'
const tenant = 'default'
const principal = '/principal/system%3Adev-local'
const noNames: readonly string[] = []

export interface ForkRequest extends Entry {
  readonly original: Original
  /** At the anchor instead of at HEAD. */
  readonly atAnchor: boolean
  readonly waits: boolean
}

/** Every name that a fork makes. */
export interface CopyNames {
  readonly kids: readonly string[]
  readonly board: string
}

/** F1. */
export function namesOf({ url, original }: ForkRequest): CopyNames {
  const id = `fork-${createHash('sha256')
    .update(JSON.stringify([tenant, principal, original.url, url]))
    .digest('hex')}`
  const suffix = forkSuffix(id)
  return { kids: original.kids.map((kid) => `${kid}-fork-${suffix}`), board: `${original.board}-fork-${suffix}` }
}

export const statePath = (id: string): string => `/_electric/shared-state/${id}`

/** As many sources as there are callers. */
export async function originalsOf(wire: Wire, count: number): Promise<readonly Original[]> {
  await wire.register('worker')
  const writer = new RuntimeWriter(wire.house)
  try {
    return await Promise.all(Array.from({ length: count }, async (_, index) => await originalOf(wire, writer, `o${index}`)))
  } finally {
    await writer.close()
  }
}

async function originalOf(wire: Wire, writer: RuntimeWriter, name: string): Promise<Original> {
  const original: Original = { url: `/chat/${name}`, kids: [`/worker/${name}-a`, `/worker/${name}-b`], board: `board-${name}` }
  const { url, kids, board } = original
  await wire.spawned(url, { args: { board } })
  for (const kid of kids) await wire.spawned(kid, { parent: url })
  const state = { headers: { 'content-type': 'application/json' } }
  expectStatus(201, await wire.ask('PUT', statePath(board), undefined, state))
  expectStatus(204, await wire.ask('POST', statePath(board), rowEvent('note', '1', { text: url }), state))
  const file = new FormData()
  file.append('file', new Blob([attachmentText], { type: 'text/plain' }), 'a.txt')
  for (const [field, value] of Object.entries({ id: attachmentId, subjectType: 'inbox', subjectKey: 'm' })) file.append(field, value)
  const uploaded = await fetch(`${wire.house.url}/_electric/entities${url}/attachments`, { method: 'POST', body: file })
  if (uploaded.status !== 201) throw new Error(`an upload answered ${uploaded.status}`)
  await writer.append(
    url,
    ...kids.map((kid) => childEvent(kid)),
    manifestEvent(`shared-state:${board}`, { kind: 'shared-state', id: board }),
  )
  await writer.append(url, runEvent('run-0', 'started'), runEvent('run-0', 'completed'))
  await writer.append(url, rowEvent('text', 'after-the-run', {}))
  return original
}

export interface ForkLoadOptions extends LoadOptions {
  readonly wire: Wire
  readonly originals: readonly Original[]
  /** F3. */
  readonly waits?: boolean
}

/** Longer than any crash takes. */
const waitTimeoutMs = 120_000

export class ForkLoad {
  readonly forks: ForkRequest[] = []
  readonly #options: ForkLoadOptions
  readonly #stopping = new AbortController()
  readonly #callers: Promise<unknown>

  private constructor(options: ForkLoadOptions) {
    this.#options = options
    this.#callers = Promise.all(options.originals.map((original, caller) => this.#call(original, caller)))
  }

  static start(options: ForkLoadOptions): ForkLoad {
    return new ForkLoad(options)
  }

  async stop(): Promise<readonly ForkRequest[]> {
    this.#stopping.abort()
    return await this.ended()
  }

  async ended(): Promise<readonly ForkRequest[]> {
    await this.#callers
    return this.forks
  }

  count(): number {
    return this.forks.filter(({ outcome }) => outcome === 'done').length
  }

  async #call(original: Original, caller: number): Promise<void> {
    const { name, urls, onLost, waits = false } = this.#options
    const base = urls[caller % urls.length] ?? ''
    for (let nth = 0; !this.#stopping.signal.aborted; nth += 1) {
      const wanted = { original, url: `/chat/${name}-${caller}-${nth}`, atAnchor: !waits && nth % 2 === 1, waits }
      const first = waits ? await this.#patiently(base, wanted) : await forked(base, wanted)
      const fork = onLost === 'waits' ? await insisted(base, first) : first
      this.forks.push(fork)
      if (fork.outcome !== 'done') return
    }
  }

  /** F3. */
  async #patiently(base: string, wanted: Wanted): Promise<ForkRequest> {
    const { wire } = this.#options
    const [kid = ''] = wanted.original.kids
    await wire.putInto('running', kid)
    let isOver = false
    const asked = forked(base, wanted).finally(() => {
      isOver = true
    })
    const isWaitedFor = async () => isOver || (await wire.sql('SELECT FROM waiters WHERE url = $1', kid)).length > 0
    await eventually(isWaitedFor, { withinMs: 60_000 })
    if (!isOver) await rested(base, kid)
    return await asked
  }
}

/** What was not acknowledged is asked for again, under its key, until it is. */
async function insisted(base: string, first: ForkRequest): Promise<ForkRequest> {
  let fork = first
  for (let attempt = 0; fork.outcome === 'unknown' && attempt < 200; attempt += 1) {
    await delay(250) // a caller that is refused at once does not spin
    fork = await forked(base, fork)
  }
  return fork
}

/** Whom nobody could tell to rest while the server was away. */
export async function comeToRest({ house }: Wire, originals: readonly Original[]): Promise<void> {
  await Promise.all(originals.map(async ({ kids: [kid = ''] }) => await rested(house.url, kid)))
}

const rested = async (base: string, kid: string) =>
  await outcomeOf(`${base}/_electric/entities${kid}/signal`, { method: 'POST', headers: json, body: '{"signal":"SIGSTOP"}' })

type Wanted = Omit<ForkRequest, 'outcome' | 'answer'>

export async function forked(base: string, wanted: Wanted, key: string | null = wanted.url): Promise<ForkRequest> {
  const { url, original, atAnchor, waits } = wanted
  const [, , instance_id] = url.split('/')
  const body = {
    instance_id,
    initialMessage: url,
    ...(atAnchor ? { anchor: 'latest_completed_run' } : {}),
    ...(waits ? { waitTimeoutMs } : {}),
  }
  const { outcome, answer, text } = await outcomeOf(`${base}/_electric/entities${original.url}/fork`, {
    method: 'POST',
    headers: { ...json, ...(key === null ? {} : { 'idempotency-key': key }) },
    body: JSON.stringify(body),
  })
  const urls = outcome === 'done' ? (JSON.parse(text) as { readonly entities: readonly { readonly url: string }[] }).entities : noNames
  return { original, url, atAnchor, waits, outcome, answer: outcome === 'done' ? JSON.stringify(urls) : answer }
}
