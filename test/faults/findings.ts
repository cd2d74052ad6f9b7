/** What stands in a house after a crash, held against the ledger: nothing acknowledged is missing, nothing is half there. */
import type { Client } from '@temporalio/client'
import { eventually } from '../support/eventually.js'
import type { Wire, WireEvent } from '../support/wire.js'
import type { Kill, Outcome, Request, Spawn } from './ledger.js'

/** Operations of each fate. */
export interface Counts {
  readonly acknowledged: number
  readonly unacknowledgedComplete: number
  readonly unacknowledgedAbsent: number
}

/** What is wrong, in words; and the counts. */
export interface Judgement {
  readonly wrong: readonly string[]
  readonly counts: Counts
}

/** One entity as the server shows it. */
interface Seen {
  readonly status: string | null
  readonly events: readonly WireEvent[] | null
  readonly isClosed: boolean
}

/** Every difference between the ledger and what is there, in words; and the counts. */
export async function findings(wire: Wire, requests: readonly Request[]): Promise<Judgement> {
  const wrong: string[] = []
  const fates: { readonly outcome: Outcome; readonly isThere: boolean }[] = []
  await inLanes([...grouped(requests, ({ url }) => url).values()], async (own) => {
    const [spawn] = own
    if (spawn?.kind !== 'spawn') throw new Error(`the ledger of ${spawn?.url} does not begin with its spawn`)
    const seen = await lookAt(wire, spawn.url)
    for (const request of own) {
      const there = timesThere(request, seen)
      fates.push({ outcome: request.outcome, isThere: there > 0 })
      wrong.push(...judged(request, there).map((reason) => `${request.kind} ${request.url}: ${reason} (answered: ${request.answer})`))
    }
    wrong.push(...incoherent(spawn, own, seen).map((reason) => `${spawn.url}: ${reason} (${JSON.stringify(seen).slice(0, 600)})`))
  })
  return { wrong, counts: countsOf(fates) }
}

/** All that can be asked about a load of spawns, messages and kills. */
export async function judgeRequests(wire: Wire, requests: readonly Request[]): Promise<Judgement> {
  const { wrong, counts } = await findings(wire, requests)
  const again = await spawnAgain(wire, requests)
  const pairs = wire.house.streamsUrl === undefined ? await unpaired(wire) : []
  return { wrong: [...wrong, ...again, ...pairs], counts }
}

/** Whether a URL whose spawn was never acknowledged, and is not there, can be spawned. */
export async function spawnAgain(wire: Wire, requests: readonly Request[]): Promise<readonly string[]> {
  const wrong: string[] = []
  const lost = requests.filter((request): request is Spawn => request.kind === 'spawn' && request.outcome !== 'done')
  await inLanes(lost, async ({ url }) => {
    if ((await lookAt(wire, url)).status !== null) return
    const { status, text } = await wire.spawn(url, { initialMessage: 'again' })
    if (status !== 201) wrong.push(`${url} is not free again: ${status} ${text}`)
    const events = status === 201 ? await wire.events(url) : []
    if (status === 201 && events.map(({ type }) => type).join() !== 'entity_created,inbox')
      wrong.push(`${url}, spawned again, is not complete`)
  })
  return wrong
}

/** What no crash may leave behind for long: waits until it is gone. */
export async function settled(wire: Wire, temporal: Client, withinMs: number): Promise<void> {
  await eventually(
    async () => {
      const [left] = await wire.sql(`
        SELECT (SELECT count(*)::int FROM entities WHERE reserved_by IS NOT NULL) AS reserved,
               (SELECT count(*)::int FROM append_intents) AS intents,
               (SELECT count(*)::int FROM waiters) AS waiters,
               (SELECT count(*)::int FROM waiter_signals) AS signals`)
      const open: string[] = []
      for await (const { workflowId } of temporal.workflow.list({ query: `ExecutionStatus = 'Running'` })) open.push(workflowId)
      if (Object.values(left ?? {}).some((count) => count !== 0) || open.length > 0)
        throw new Error(`still there: ${JSON.stringify(left)} ${await intentsLeft(wire)}, open workflows: ${open.join(' ')}`)
      return true
    },
    { withinMs, everyMs: 200 },
  )
}

/** Which appends they are, and until when somebody works on them. */
async function intentsLeft(wire: Wire): Promise<string> {
  const rows = await wire.sql(`
    SELECT id, path, closes, length(body) AS bytes, runs, (extract(epoch FROM owned_until - now()) * 1000)::int AS owned_ms,
           (SELECT processed FROM stream_progress p WHERE p.tenant_id = i.tenant_id AND p.path = i.path) AS drawn_to
      FROM append_intents i ORDER BY ord LIMIT 5`)
  return JSON.stringify(rows)
}

/** Rows and streams by pairs, and no open stream of a killed entity; with streams in Postgres the tables say so. */
export async function unpaired(wire: Wire): Promise<readonly string[]> {
  const rows = await wire.sql(`
    SELECT e.url, e.status, s.path, s.closed
      FROM entities e FULL JOIN (SELECT * FROM streams WHERE path LIKE '/%/%/main') s ON s.path = e.url || '/main'
     WHERE e.url IS NULL OR s.path IS NULL OR (e.status IN ('killed', 'stopped')) <> s.closed`)
  return rows.map((row) => `row and stream do not match: ${JSON.stringify(row)}`)
}

async function lookAt(wire: Wire, url: string): Promise<Seen> {
  const [row, stream] = await Promise.all([wire.get(url), wire.stream(url)])
  for (const { status, text } of [row, stream]) if (![200, 404].includes(status)) throw new Error(`${url}: ${status} ${text}`)
  if (row.status === 404 && (await standsElsewhere(wire, url))) throw new Error(`${url} has no row, but a stream on the stream server`)
  return {
    status: row.status === 200 ? (row.body as { readonly status: string }).status : null,
    events: stream.status === 200 ? (stream.body as readonly WireEvent[]) : null,
    isClosed: stream.headers.get('stream-closed') === 'true',
  }
}

/** A foreign stream server is asked itself: ours shows no stream of an entity that does not exist. */
async function standsElsewhere({ house }: Wire, url: string): Promise<boolean> {
  if (house.streamsUrl === undefined) return false
  const { status } = await fetch(`${house.streamsUrl}${url}/main`, { method: 'HEAD' })
  return status !== 404 && status !== 410
}

/** How often the effect of a request is there. */
function timesThere(request: Request, { status, events }: Seen): number {
  if (request.kind === 'kill') return status === 'killed' ? 1 : 0
  if (request.kind === 'spawn') return status === null ? 0 : 1
  return (events ?? []).filter(({ type, value }) => type === 'inbox' && value?.payload === request.message).length
}

function judged({ outcome }: Request, times: number): readonly string[] {
  if (times > 1) return [`it is there ${times} times`]
  if (outcome === 'done' && times === 0) return ['it was acknowledged and is not there']
  if (outcome === 'refused') return [times > 0 ? 'it was refused and is there' : 'it was refused, which nothing here deserves']
  return []
}

/** What is half there, whatever was answered. */
function incoherent(spawn: Spawn, own: readonly Request[], { status, events, isClosed }: Seen): readonly string[] {
  if (status === null || events === null)
    return status === null && events === null ? [] : ['a row without a stream, or a stream without a row']
  const wrong: string[] = []
  const payloads = events.filter(({ type }) => type === 'inbox').map(({ value }) => value?.payload)
  const sent = own.flatMap((request) => (request.kind === 'kill' ? [] : [request.message]))
  const signals = events.filter(({ type }) => type === 'signal').length
  if (events.filter(({ type }) => type === 'entity_created').length !== 1 || events[0]?.type !== 'entity_created')
    wrong.push('not exactly one entity_created, first')
  if (payloads[0] !== spawn.message) wrong.push('the first message is not the first')
  if (payloads.join() !== sent.filter((message) => payloads.includes(message)).join())
    wrong.push('messages twice, strange, or out of order')
  if (isClosed !== (status === 'killed')) wrong.push(`its stream is ${isClosed ? 'closed' : 'open'} while it is ${status}`)
  if (signals !== (own.some(isKill) && status === 'killed' ? 1 : 0)) wrong.push(`${signals} signal events`)
  return wrong
}

const isKill = (request: Request): request is Kill => request.kind === 'kill'

/** Items by a name of theirs, in the order in which the names first appear. */
export function grouped<Item>(items: readonly Item[], nameOf: (item: Item) => string): ReadonlyMap<string, readonly Item[]> {
  const groups = new Map<string, Item[]>()
  for (const item of items) groups.set(nameOf(item), [...(groups.get(nameOf(item)) ?? []), item])
  return groups
}

export function countsOf(fates: readonly { readonly outcome: Outcome; readonly isThere: boolean }[]): Counts {
  const unacknowledged = fates.filter(({ outcome }) => outcome !== 'done')
  return {
    acknowledged: fates.length - unacknowledged.length,
    unacknowledgedComplete: unacknowledged.filter(({ isThere }) => isThere).length,
    unacknowledgedAbsent: unacknowledged.filter(({ isThere }) => !isThere).length,
  }
}

export async function inLanes<Item>(items: readonly Item[], work: (item: Item) => Promise<void>): Promise<void> {
  const left = [...items]
  const lane = async () => {
    for (let item = left.pop(); item !== undefined; item = left.pop()) await work(item)
  }
  await Promise.all(Array.from({ length: 8 }, lane))
}
