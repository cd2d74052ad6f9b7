/** What stands in a house after a crash under edits, held against their ledger. */
import { eventually } from '../support/eventually.js'
import { expectStatus, type Wire, type WireEvent } from '../support/wire.js'
import { attachmentBytes, type Edit, type EditKind, sha256, uploadAgain } from './edits.js'
import { countsOf, grouped, inLanes, type Judgement } from './findings.js'
import type { Outcome } from './ledger.js'

/** A lapsed claim (3 s in these houses), the next sweep (10 s), a busy machine. */
const unclaimedWithinMs = 30_000

interface Fate {
  readonly outcome: Outcome
  readonly isThere: boolean
}

/** One entity as the server shows it. */
interface Seen {
  readonly url: string
  readonly tags: Readonly<Record<string, string>>
  readonly events: readonly WireEvent[]
}

export async function judgeEdits(wire: Wire, edits: readonly Edit[]): Promise<Judgement> {
  await unclaimed(wire)
  const refused = edits.filter(({ outcome }) => outcome === 'refused').map((edit) => `${edit.kind} ${edit.key}: ${edit.answer}`)
  const wrong: string[] = [...refused]
  const fates: Fate[] = []
  const ofTypes = edits.filter(({ kind }) => kind === 'schema')
  const ofEntities = edits.filter(({ kind }) => kind !== 'schema')
  await inLanes([...grouped(ofEntities, ({ url }) => url)], async ([url, own]) => {
    const seen = await lookAt(wire, url)
    for (const [caller, asked] of grouped(own, (edit) => edit.caller)) {
      const traces = tracesOf(caller, seen.events)
      const isThere = traces.length === asked.length // for the one in doubt
      fates.push(...asked.map(({ outcome }) => ({ outcome, isThere })))
      wrong.push(...untrue(asked, traces).map((reason) => `${caller} of ${url}: ${reason}`))
    }
    wrong.push(...untrueTags(seen).map((reason) => `${url}: ${reason}`))
    wrong.push(...(await halfAttached(wire, seen, own)).map((reason) => `${url}: ${reason}`))
    wrong.push(...(await unfree(wire, seen, own)).map((reason) => `${url}: ${reason}`))
  })
  for (const [type, asked] of grouped(ofTypes, ({ url }) => url)) {
    const amended = await amendedType(wire, type)
    fates.push(...asked.map(({ outcome, key }) => ({ outcome, isThere: Object.hasOwn(amended.state_schemas ?? {}, key) })))
    wrong.push(...untrueSchemas(asked, amended).map((reason) => `${type}: ${reason}`))
  }
  return { wrong, counts: countsOf(fates) }
}

/** No path of an attachment stays claimed. */
async function unclaimed(wire: Wire): Promise<void> {
  await eventually(
    async () => {
      const claims = await wire.sql('SELECT path, claimed_by, deadline FROM attachment_claims')
      if (claims.length > 0) throw new Error(`still claimed: ${JSON.stringify(claims)}`)
      return true
    },
    { withinMs: unclaimedWithinMs, everyMs: 200 },
  )
}

async function lookAt(wire: Wire, url: string): Promise<Seen> {
  const { tags } = expectStatus(200, await wire.get(url)).body as Pick<Seen, 'tags'>
  return { url, tags, events: await wire.events(url) }
}

const shownBy: Readonly<Record<string, (value: Readonly<Record<string, unknown>>) => unknown>> = {
  tags: ({ value }) => value,
  'state:notes': ({ text }) => text,
  inbox: ({ payload }) => payload,
  manifest: ({ sha256 }) => sha256,
}

/** Everything that the caller's edits left on the stream, in its order. */
function tracesOf(caller: string, events: readonly WireEvent[]): readonly string[] {
  return events.flatMap(({ type, key, value, headers }) => {
    const name = key.replace(/^attachment:/, '')
    if (!name.startsWith(`${caller}-`)) return []
    return [`${type} ${name} ${headers.operation === 'delete' || value === undefined ? 'gone' : String(shownBy[type]?.(value))}`]
  })
}

const eventTypes: Readonly<Record<Exclude<EditKind, 'schema'>, string>> = {
  tag: 'tags',
  row: 'state:notes',
  message: 'inbox',
  attachment: 'manifest',
}

function traceOf({ kind, key, value }: Edit): string {
  if (kind === 'schema') throw new Error('schemas leave no trace on a stream')
  const shown = value === null ? 'gone' : kind === 'attachment' ? sha256(attachmentBytes(value)) : value
  return `${eventTypes[kind]} ${key} ${shown}`
}

/**
 * The acknowledged edits are there once each and in their order; the one in doubt in its place among them, or not at all. What changes no
 * row may also come late: nobody was told that it had happened.
 */
function untrue(asked: readonly Edit[], traces: readonly string[]): readonly string[] {
  const acknowledged = asked.filter(({ outcome }) => outcome === 'done').map(traceOf)
  const late = asked.filter(({ outcome, kind }) => outcome !== 'done' && (kind === 'row' || kind === 'message')).map(traceOf)
  const allowed = [asked.map(traceOf), acknowledged, [...acknowledged, ...late]]
  if (allowed.some((expected) => expected.join('\n') === traces.join('\n'))) return []
  return [`on the stream: ${JSON.stringify(traces)}; asked: ${JSON.stringify(allowed[0])}, of which acknowledged: ${acknowledged.length}`]
}

/** The row's tags are what a reader of the stream believes. */
function untrueTags({ tags, events }: Seen): readonly string[] {
  const believed = new Map<string, unknown>()
  for (const { key, value, headers } of events.filter(({ type }) => type === 'tags'))
    headers.operation === 'delete' ? believed.delete(key) : believed.set(key, value?.value)
  const [row, stream] = [Object.entries(tags), [...believed]].map((pairs) => JSON.stringify(pairs.sort()))
  return row === stream ? [] : [`tags of the row: ${row}, of the stream: ${stream}`]
}

/** With its manifest row all of an attachment is there, without it nothing. */
async function halfAttached(wire: Wire, { url, events }: Seen, asked: readonly Edit[]): Promise<readonly string[]> {
  const wrong: string[] = []
  for (const { kind, key, value } of asked) {
    if (kind !== 'attachment' || value === null) continue
    const isShown = isAttached(events, key)
    const path = `${url}/attachments/${key}`
    const downloaded = await fetch(`${wire.url}/_electric/entities${path}`)
    const bytes = Buffer.from(await downloaded.arrayBuffer())
    const stream = await wire.ask('GET', `${path}?offset=-1`)
    const found = [downloaded.status, stream.status, await isStored(wire, path)]
    if (found.join() !== (isShown ? [200, 200, true] : [404, 404, false]).join())
      wrong.push(`${key}: manifest row: ${isShown}; download, stream, stored: ${found.join()}`)
    if (isShown && !bytes.equals(attachmentBytes(value))) wrong.push(`${key}: other bytes than were uploaded`)
  }
  return wrong
}

function isAttached(events: readonly WireEvent[], key: string): boolean {
  const row = events.findLast((event) => event.type === 'manifest' && event.key === `attachment:${key}`)
  return row !== undefined && row.headers.operation !== 'delete'
}

/** The ids of uploads that were not acknowledged and are not there can be had again. */
async function unfree(wire: Wire, { url, events }: Seen, asked: readonly Edit[]): Promise<readonly string[]> {
  const isLost = ({ kind, key, value, outcome }: Edit) =>
    kind === 'attachment' && value !== null && outcome !== 'done' && !isAttached(events, key)
  const again = await uploadAgain(wire.url, asked.filter(isLost))
  const refused = again.filter(({ outcome }) => outcome !== 'done').map(({ key, answer }) => `${key} is not free again: ${answer}`)
  return [...refused, ...(await halfAttached(wire, await lookAt(wire, url), again))]
}

/** Where nobody decides what is shown. */
async function isStored(wire: Wire, path: string): Promise<boolean> {
  const { streamsUrl } = wire.house
  if (streamsUrl === undefined) return (await wire.sql('SELECT FROM streams WHERE path = $1 AND gone_at IS NULL', path)).length > 0
  const { status } = await fetch(streamsUrl + path, { method: 'HEAD' })
  return status !== 404 && status !== 410
}

interface AmendedType {
  readonly revision: number
  readonly state_schemas: Readonly<Record<string, unknown>> | null
}

async function amendedType(wire: Wire, type: string): Promise<AmendedType> {
  return expectStatus(200, await wire.ask('GET', `/_electric/entity-types${type}`)).body as AmendedType
}

/** Every acknowledged key is there, and every amendment counted the revision up, each caller's later than its earlier ones. */
function untrueSchemas(asked: readonly Edit[], { revision, state_schemas }: AmendedType): readonly string[] {
  const keys = Object.keys(state_schemas ?? {})
  const acknowledged = asked.filter(({ outcome }) => outcome === 'done')
  const wrong = acknowledged.filter(({ key }) => !keys.includes(key)).map(({ key }) => `${key} was acknowledged and is not there`)
  if (keys.some((key) => !asked.some((edit) => edit.key === key))) wrong.push('keys that nobody asked for')
  if (revision !== keys.length + 1) wrong.push(`revision ${revision} after ${keys.length} amendments`)
  const revisions = acknowledged.map((edit) => edit.revision)
  if (new Set(revisions).size !== revisions.length) wrong.push('one revision for two amendments')
  for (const [caller, own] of grouped(acknowledged, (edit) => edit.caller))
    if (own.some((edit, index) => index > 0 && (edit.revision ?? 0) <= (own[index - 1]?.revision ?? 0)))
      wrong.push(`revisions of ${caller} do not increase`)
  return wrong
}
