/** What stands of forks after a crash: each is complete and says so once, or there is no trace of it. */
import { isDeepStrictEqual } from 'node:util'
import { expectStatus, type Wire, type WireEvent } from '../support/wire.js'
import { countsOf, inLanes, type Judgement, unpaired } from './findings.js'
import { attachmentId, attachmentText, type ForkRequest, forked, namesOf, type Original, statePath } from './forks.js'

/** All that can be asked about a load of forks. */
export async function judgeForks(wire: Wire, forks: readonly ForkRequest[]): Promise<Judgement> {
  const wrong: string[] = [...(await leftBehind(wire))]
  const fates: { readonly outcome: ForkRequest['outcome']; readonly isThere: boolean }[] = []
  await inLanes(forks, async (fork) => {
    const traces = await tracesOf(wire, fork)
    const isThere = traces.length > 0
    fates.push({ outcome: fork.outcome, isThere })
    const found = isThere ? await incomplete(wire, fork, traces) : []
    if (!isThere && fork.outcome === 'done') found.push('it was acknowledged and is not there')
    if (fork.outcome === 'refused') found.push('it was refused, which nothing here deserves')
    if (fork.outcome !== 'done') found.push(...(await askedAgain(wire, fork, isThere)))
    wrong.push(...found.map((what) => `fork ${fork.url} of ${fork.original.url}: ${what} (answered: ${fork.answer})`))
  })
  const originals = new Set(forks.map(({ original }) => original))
  await inLanes([...originals], async (original) => {
    wrong.push(...(await closedTo(wire, original)))
  })
  return { wrong, counts: countsOf(fates) }
}

const copiesOf = (fork: ForkRequest): readonly string[] => [fork.url, ...namesOf(fork).kids]

/** Everything that has a name of this fork, whether anybody can see it or not. */
export async function tracesOf(wire: Wire, fork: ForkRequest): Promise<readonly string[]> {
  const urls = copiesOf(fork)
  const streams = [...urls.map((url) => `${url}/main`), statePath(namesOf(fork).board), `${fork.url}/attachments/${attachmentId}`]
  const rows = await wire.sql(
    `SELECT 'entity ' || url AS found FROM entities WHERE url = ANY ($1)
      UNION ALL SELECT 'lineage ' || descendant_url FROM lineage WHERE descendant_url = ANY ($1)
      UNION ALL SELECT 'projection ' || entity_url || ' ' || key FROM projections WHERE entity_url = ANY ($1)
      UNION ALL SELECT 'link ' || shared_state_id FROM shared_state_links WHERE owner_url = ANY ($1)
      UNION ALL SELECT 'stream ' || path FROM streams WHERE path = ANY ($2) AND gone_at IS NULL
      UNION ALL SELECT 'subscription link ' || path FROM subscription_links WHERE path = ANY ($2)
      UNION ALL SELECT 'lock ' || url FROM fork_locks WHERE url = ANY ($1)`,
    urls,
    streams,
  )
  return [...rows.map(({ found }) => String(found)), ...(await standing(wire, streams)).map((path) => `stream ${path}`)]
}

/** On a foreign stream server, asked itself: ours shows no stream of an entity that does not exist. */
async function standing({ house }: Wire, paths: readonly string[]): Promise<readonly string[]> {
  if (house.streamsUrl === undefined) return []
  const statuses = await Promise.all(paths.map(async (path) => (await fetch(`${house.streamsUrl}${path}`, { method: 'HEAD' })).status))
  return paths.filter((_, index) => statuses[index] !== 404)
}

/** What is missing of a fork that left traces, or is there twice. */
async function incomplete(wire: Wire, fork: ForkRequest, traces: readonly string[]): Promise<string[]> {
  const names = namesOf(fork)
  const wrong: string[] = []
  const expected = [
    ...copiesOf(fork).flatMap((url) => [`entity ${url}`, `stream ${url}/main`]),
    `stream ${statePath(names.board)}`,
    `stream ${fork.url}/attachments/${attachmentId}`,
    `link ${names.board}`,
  ]
  const missing = expected.filter((trace) => !traces.includes(trace))
  if (missing.length > 0) return [`half of it is there: without ${missing.join(', ')}; with ${traces.join(', ')}`]
  const row = await wire.get(fork.url)
  if (row.status !== 200 || (row.body as { readonly status: unknown }).status !== 'idle') return [`its row is ${row.status} ${row.text}`]
  wrong.push(...(await wrongHistory(wire, fork)))
  for (const [index, kid] of names.kids.entries()) wrong.push(...(await wrongKid(wire, fork, kid, fork.original.kids[index] ?? '')))
  const [theirs, ours] = await Promise.all(
    [fork.original.board, names.board].map(async (id) => await wire.ask('GET', `${statePath(id)}?offset=-1`)),
  )
  if (!isBeginning(ours?.body, theirs?.body)) wrong.push(`its shared state is ${ours?.status} ${ours?.text}`)
  const file = await wire.ask('GET', `/_electric/entities${fork.url}/attachments/${attachmentId}`)
  if (file.text !== attachmentText) wrong.push(`its attachment is ${file.status} ${file.text}`)
  const projected = (await wire.sql(`SELECT key FROM projections WHERE entity_url = $1 AND type = 'manifest'`, fork.url)).map(({ key }) =>
    String(key),
  )
  const keys = [
    ...names.kids.map((kid) => `child:${kid.slice(1).replace('/', ':')}`),
    `shared-state:${names.board}`,
    `attachment:${attachmentId}`,
  ]
  if (projected.sort().join() !== keys.sort().join()) wrong.push(`its projection is ${projected.join()}`)
  return wrong
}

const brief = ({ type, headers }: WireEvent): string => `${type} ${headers.operation}`
/** Two children and a shared state that are renamed, an attachment that is not. */
const ownEvents = [
  'entity_created update',
  'manifest update',
  ...Array.from({ length: 3 }, () => ['manifest delete', 'manifest insert']).flat(),
]

/** The past of its source, then what a copy says of itself, then its first message: all of it once. */
async function wrongHistory(wire: Wire, fork: ForkRequest): Promise<readonly string[]> {
  const { original, atAnchor, url } = fork
  const [theirs, ours] = await Promise.all([wire.events(original.url), wire.events(url)])
  const begins = ours.findIndex(({ headers }) => headers.forkedFrom === original.url)
  const inherited = ours.slice(0, begins)
  const own = ours.slice(begins)
  const wrong: string[] = []
  if (!isBeginning(inherited, theirs)) wrong.push('its past is not that of its source')
  const last = inherited.at(-1)
  if (atAnchor ? last?.type !== 'run' : !inherited.some(({ key }) => key === 'after-the-run'))
    wrong.push(`its past ends with ${JSON.stringify(last)}`)
  const message = own.at(-1)
  if (message?.type !== 'inbox' || message.value?.payload !== url) wrong.push(`its last event is ${JSON.stringify(message)}`)
  if (own.slice(0, -1).map(brief).sort().join() !== [...ownEvents].sort().join()) wrong.push(`its own events are ${own.map(brief).join()}`)
  return wrong
}

async function wrongKid(wire: Wire, { url }: ForkRequest, kid: string, source: string): Promise<readonly string[]> {
  const [row, theirs, ours] = await Promise.all([wire.get(kid), wire.events(source), wire.events(kid)])
  const { parent, status } = row.body as { readonly parent?: string; readonly status?: string }
  const wrong = parent === url && status === 'idle' ? [] : [`${kid}: its row is ${row.status} ${row.text}`]
  const begins = ours.findIndex(({ headers }) => headers.forkedFrom === source)
  if (!isBeginning(ours.slice(0, begins), theirs)) wrong.push(`${kid}: its past is not that of ${source}`)
  const own = ours.slice(begins).map(brief).join()
  if (own !== 'entity_created update') wrong.push(`${kid}: its own events are ${own}`)
  return wrong
}

/** Whether a copy's past is what its source began with. */
const isBeginning = (copy: unknown, source: unknown): boolean =>
  Array.isArray(copy) && Array.isArray(source) && copy.length > 0 && isDeepStrictEqual(copy, source.slice(0, copy.length))

/** Said once: a repetition under its key meets it, or makes it; anybody else finds its name taken then, and free otherwise. */
async function askedAgain(wire: Wire, fork: ForkRequest, isThere: boolean): Promise<readonly string[]> {
  const wrong: string[] = []
  const repeated = await forked(wire.house.url, fork)
  const urls = copiesOf(fork).join()
  const answered =
    repeated.outcome === 'done' ? (JSON.parse(repeated.answer) as readonly { readonly url: string }[]).map(({ url }) => url) : []
  if (answered.join() !== urls) wrong.push(`repeated, ${isThere ? 'complete' : 'absent'} before, it answers ${repeated.answer}`)
  else wrong.push(...(await incomplete(wire, fork, await tracesOf(wire, fork))).map((what) => `repeated: ${what}`))
  const other = await forked(wire.house.url, fork, null)
  if (!other.answer.startsWith('409 ')) wrong.push(`its name is not taken afterwards: ${other.answer}`)
  return wrong
}

/** What no fork may leave behind, whatever its name. */
export async function leftBehind(wire: Wire): Promise<readonly string[]> {
  const rows = await wire.sql(`
    SELECT 'waiter ' || url || ' ' || workflow_id AS found FROM waiters
     UNION ALL SELECT 'signal for ' || workflow_id FROM waiter_signals
     UNION ALL SELECT 'lock on ' || url FROM fork_locks
     UNION ALL SELECT 'reservation of ' || url FROM entities WHERE reserved_by IS NOT NULL
     UNION ALL SELECT 'projection of nobody: ' || entity_url FROM projections WHERE entity_url NOT IN (SELECT url FROM entities)
     UNION ALL SELECT 'link of nobody: ' || owner_url FROM shared_state_links WHERE owner_url NOT IN (SELECT url FROM entities)
     UNION ALL SELECT 'progress of nobody: ' || path FROM stream_progress WHERE path LIKE '/%/%/main' AND left(path, -5) NOT IN (SELECT url FROM entities)
     UNION ALL SELECT 'shared state of nobody: ' || path FROM streams
                WHERE path LIKE '/_electric/shared-state/%' AND substr(path, 25) NOT IN (SELECT shared_state_id FROM shared_state_links)
     UNION ALL SELECT 'attachment of nobody: ' || path FROM streams
                WHERE path LIKE '/%/%/attachments/%' AND split_part(path, '/attachments/', 1) NOT IN (SELECT url FROM entities)`)
  return [...rows.map(({ found }) => `left behind: ${found}`), ...(wire.house.streamsUrl === undefined ? await unpaired(wire) : [])]
}

/** The source takes what it always took: messages, shared state, an attachment and its removal. */
async function closedTo(wire: Wire, { url, board }: Original): Promise<readonly string[]> {
  const wrong: string[] = []
  const ask = async (what: string, expected: number, ...request: Parameters<Wire['ask']>) => {
    const answer = await wire.ask(...request)
    if (answer.status !== expected) wrong.push(`${url} does not take ${what}: ${answer.status} ${answer.text}`)
  }
  await ask('a message', 200, 'POST', `/_electric/entities${url}/send`, { payload: 'still there?' })
  const note = { type: 'note', key: '2', value: {}, headers: { operation: 'insert' } }
  await ask('a note', 204, 'POST', statePath(board), note, { headers: { 'content-type': 'application/json' } })
  const file = new FormData()
  file.append('file', new Blob(['x']), 'x')
  for (const [field, value] of Object.entries({ id: 'another', subjectType: 'inbox', subjectKey: 'm' })) file.append(field, value)
  const uploaded = await fetch(`${wire.house.url}/_electric/entities${url}/attachments`, { method: 'POST', body: file })
  if (uploaded.status !== 201) wrong.push(`${url} does not take an attachment: ${uploaded.status}`)
  await ask('the removal of an attachment', 200, 'DELETE', `/_electric/entities${url}/attachments/another`)
  return wrong
}

/** For forks that were ended by hand: nothing of them is there, and their name is free. */
export async function gone(wire: Wire, fork: ForkRequest): Promise<readonly string[]> {
  const traces = [...(await tracesOf(wire, fork)), ...(await leftBehind(wire))]
  if (traces.length > 0) return traces
  const again = expectStatus(
    201,
    await wire.ask('POST', `/_electric/entities${fork.original.url}/fork`, { instance_id: fork.url.split('/')[2] }),
  )
  return again.status === 201 ? [] : [again.text]
}
