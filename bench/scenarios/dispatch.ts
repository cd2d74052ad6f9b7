/** From a message to its handler, and back: issue "From append to handler", aims of its bench. */
import { freePort } from '../../src/dev/ports.js'
import type { Numbers } from '../measure.js'
import { ask, type Bench, inTurn, type Line, pacedEveryMs, type Scenario } from '../scenario.js'
import { withDatabase } from './database.js'

const entities = 64
const otherSubscriptions = 10_000
/** send, delivery, claim, read, append, done. */
const requestsOfAWake = 6

export const dispatch: Scenario = async (bench) => {
  const { generator, floors, url, shellUrl } = bench.parts
  const handlerPort = await freePort()
  await preparedEntities(bench, handlerPort)
  const load = (until: 'called' | 'done') => ({ is: 'wakes', origin: url, entity: '/bench-wake/e{k}', handlerPort, until }) as const
  const paced = { callers: 1, everyMs: pacedEveryMs, count: Math.ceil((2 * bench.roundMs) / pacedEveryMs) }
  const bare = { is: 'http', method: 'POST', origin: shellUrl, path: '/_electric/bench/bytes', body: 'x'.repeat(600) } as const
  const empty = { is: 'http', method: 'GET', origin: shellUrl, path: '/_electric/bench/empty' } as const
  const forMs = bench.roundMs
  const measured = {
    transaction: () => floors.run({ ...paced, load: { is: 'transaction' } }),
    bare: () => generator.run({ ...paced, load: bare }),
    called: () => generator.run({ ...paced, load: load('called') }),
    done: () => generator.run({ ...paced, load: load('done') }),
    crowd: () => generator.run({ load: load('done'), callers: entities, forMs }),
    empty: () => generator.run({ load: empty, callers: entities, forMs }),
  }
  const numbers = await inTurn(bench, measured)
  await addSubscriptions(bench)
  const among = await inTurn(bench, { done: measured.done, crowd: measured.crowd })
  const oneCall = numbers.transaction.p50Ms + numbers.bare.p50Ms
  const line = (what: string, callers: number, of: Numbers): Line => ({ what, callers, numbers: of })
  return {
    name: 'dispatch',
    lines: [
      line('a two-statement transaction, paced', 1, numbers.transaction),
      line('a bare HTTP POST, paced', 1, numbers.bare),
      line('message → handler called, paced', 1, numbers.called),
      line('message → done (claim, read, append, done), paced', 1, numbers.done),
      line('message → done, closed loop, an entity each', entities, numbers.crowd),
      line('the empty route', entities, numbers.empty),
      line(`message → done among ${otherSubscriptions} other subscriptions, paced`, 1, among.done),
      line(`message → done among ${otherSubscriptions} other subscriptions, closed loop`, entities, among.crowd),
    ],
    aims: [
      {
        what: 'message → handler called, one caller: p50 against a transaction and a bare POST',
        bound: { atMost: 3 },
        measured: numbers.called.p50Ms / oneCall,
      },
      {
        what: `message → done, one caller: p50 against ${requestsOfAWake} bare requests with a transaction each`,
        bound: { atMost: 3 },
        measured: numbers.done.p50Ms / (requestsOfAWake * oneCall),
      },
      {
        what: `message → done, ${entities} callers: per second against the empty route over ${requestsOfAWake} requests`,
        bound: { atLeast: 0.4 },
        measured: numbers.crowd.perSecond / (numbers.empty.perSecond / requestsOfAWake),
      },
      {
        what: `the same among ${otherSubscriptions} other subscriptions: p50 of one caller`,
        bound: { atMost: 1.3 },
        measured: among.done.p50Ms / numbers.done.p50Ms,
      },
      {
        what: `the same among ${otherSubscriptions} other subscriptions: time of ${entities} callers`,
        bound: { atMost: 1.3 },
        measured: numbers.crowd.perSecond / among.crowd.perSecond,
      },
      {
        what: 'errors',
        bound: { atMost: 0 },
        measured: [numbers.called, numbers.done, numbers.crowd, among.done, among.crowd].reduce((sum, { errors }) => sum + errors, 0),
      },
    ],
  }
}

async function preparedEntities({ parts: { url } }: Bench, handlerPort: number): Promise<void> {
  const policy = { targets: [{ type: 'webhook', url: `http://127.0.0.1:${handlerPort}/handler` }] }
  await ask(url, 'POST', '/_electric/entity-types', { name: 'bench-wake', description: 'of the bench', default_dispatch_policy: policy })
  for (let key = 0; key < entities; key += 1) await ask(url, 'PUT', `/_electric/entities/bench-wake/e${key}`, {})
}

/** Half of them on streams of their own, half of them patterns. */
async function addSubscriptions({ parts: { databaseUrl } }: Bench): Promise<void> {
  await withDatabase(databaseUrl, async (database) => {
    await database.query(`
      INSERT INTO subscriptions (tenant_id, id, type, pattern, pattern_prefix, configuration, webhook_url, lease_ttl_ms)
      SELECT 'default', 'bench-other-' || n, 'webhook', CASE WHEN n % 2 = 0 THEN 'other-' || n || '/**' END, CASE WHEN n % 2 = 0 THEN '/other-' || n END, 'bench',
             'http://127.0.0.1:9/', 30000
        FROM generate_series(1, ${otherSubscriptions}) n`)
    await database.query(`
      INSERT INTO subscription_links (tenant_id, path, subscription_id, is_explicit, is_glob, acked)
      SELECT 'default', '/other/' || n, 'bench-other-' || n, true, false, '-1' FROM generate_series(1, ${otherSubscriptions}) n`)
    await database.query('ANALYZE subscriptions, subscription_links')
  })
}
