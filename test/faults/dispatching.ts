/** Handlers behind a house that suffers, and what may be asked of them afterwards. */
import { eventually } from '../support/eventually.js'
import { nothingIsLeft } from '../support/hand-held.js'
import type { RunLog } from '../support/run-log.js'
import type { WakeContext } from '../support/wake-context.js'
import { WebhookHandler, type WebhookHandlerOptions } from '../support/webhook-handler.js'
import type { Wire } from '../support/wire.js'
import { findings, unpaired } from './findings.js'
import type { Request } from './ledger.js'

/**
 * Limits with which what a dead process left is taken over within seconds. On a busy machine leases that short end under handlers that live, also
 * often enough in a row for their message to be given up: that it is not done here, so that every message has to be handled.
 */
export const quickTakeover = {
  ELECTRIC_AGENTS_MAX_LOST_LEASES: '1000',
  ELECTRIC_AGENTS_DEADLINES_EVERY_MS: '100',
  ELECTRIC_AGENTS_WAKE_OWNED_MS: '500',
  ELECTRIC_AGENTS_DELIVERY_LIMIT_MS: '2000',
  ELECTRIC_AGENTS_APPEND_INTENT_OWNED_MS: '3000',
} as const

/** New subscriptions of the house get leases of this length: nobody can ask for them through the API of entities. */
export async function leasesOf(wire: Wire, ms: number): Promise<void> {
  await wire.sql(`
    CREATE FUNCTION short_lease() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.lease_ttl_ms := ${ms}; RETURN NEW; END $$`)
  await wire.sql('CREATE TRIGGER short_lease BEFORE INSERT ON subscriptions FOR EACH ROW EXECUTE FUNCTION short_lease()')
}

/** A handler that writes a run around each pass, as agents do. */
export async function startAgents(options: Omit<WebhookHandlerOptions, 'handler'>): Promise<WebhookHandler> {
  return await WebhookHandler.start({ idleMs: 20, ...options, handler: runOnce })
}

async function runOnce({ wake, pass, write, flush }: WakeContext): Promise<void> {
  const key = `run-${wake.epoch}-${pass}`
  write({ type: 'run', key, value: { status: 'started' }, headers: { operation: 'insert' } })
  await flush()
  write({ type: 'run', key, value: { status: 'completed', finish_reason: 'stop' }, headers: { operation: 'update' } })
}

/** Entities of type `name` are this handler's from now on. */
export async function serve(wire: Wire, name: string, url: string): Promise<void> {
  await wire.register(name, { default_dispatch_policy: { targets: [{ type: 'webhook', url }] } })
}

/** Nobody works on the entity any more, or nobody can be asked. */
export async function untilIdle(base: string, url: string): Promise<void> {
  const isIdle = async () => {
    const response = await fetch(`${base}/_electric/entities${url}`).catch(() => null)
    return response === null || ((await response.json()) as { readonly status?: unknown }).status === 'idle'
  }
  await eventually(isIdle, { withinMs: 20_000, everyMs: 100 }).catch(() => undefined)
}

/** Waits until every acknowledged message of an entity that lives has been handled, and nobody works any more; then says what is wrong. */
export async function judgeDispatch(wire: Wire, { log }: WebhookHandler, requests: readonly Request[], withinMs = 45_000) {
  const killed = new Set(requests.flatMap((request) => (request.kind === 'kill' ? [request.url] : [])))
  const texts = requests.flatMap((request) =>
    request.kind !== 'kill' && request.outcome === 'done' && !killed.has(request.url) ? [request.message] : [],
  )
  await eventually(() => expectEachWorkedThrough(log, texts), { withinMs, everyMs: 200 })
  await nothingIsLeft(wire, { withinMs, everyMs: 200 })
  await eventually(() => log.running().length === 0)
  const { wrong, counts } = await findings(wire, requests)
  const pairs = wire.house.streamsUrl === undefined ? await unpaired(wire) : []
  const overlaps = log.overlapsOfGenerations().map(({ first }) => `${first.entity} ran twice at a time in generation ${first.generation}`)
  return { wrong: [...wrong, ...pairs, ...overlaps, ...(await openRuns(wire))], counts, messages: texts.length }
}

/** Stricter than `expectEachHandled`: a handler that threw because its server died has not worked its message through. */
export function expectEachWorkedThrough(log: RunLog, texts: readonly string[]): true {
  const through = new Set(
    log.runs.flatMap(({ passes, ending }) =>
      passes.flatMap((pass) => (pass.ending === 'returned' || ending?.kind === 'done' ? pass.messages.map(({ text }) => text) : [])),
    ),
  )
  const missing = texts.filter((text) => !through.has(text))
  if (missing.length > 0)
    throw new Error(`${missing.length} of ${texts.length} not worked through: ${missing.slice(0, 10).join(', ')}; ${log}`)
  return true
}

/** Runs that nobody works on any more are closed on their streams. */
async function openRuns(wire: Wire): Promise<readonly string[]> {
  const rows = await wire.sql(`
    SELECT p.entity_url, p.key FROM projections p JOIN entities e ON e.url = p.entity_url
     WHERE p.type = 'run' AND e.status NOT IN ('stopped', 'killed')`)
  return rows.map(({ entity_url, key }) => `${entity_url} has a run that never ends: ${key}`)
}
