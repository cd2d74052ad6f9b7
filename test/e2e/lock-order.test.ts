/**
 * Locks are taken in one order: patterns, entities by URL, streams, subscriptions, what hangs on those. Who waits for a lock must hold none that
 * comes after it: here the test itself is the one who is waited for, and takes those.
 */
import type pg from 'pg'
import { Forker } from '../support/forker.js'
import { inTheWay, untilWaitedFor } from '../support/in-the-way.js'
import { Subscriber } from '../support/subscriber.js'
import { expectStatus } from '../support/wire.js'

let forker: Forker
let subscriber: Subscriber
beforeAll(async () => {
  forker = await Forker.start()
  subscriber = new Subscriber(forker.wire)
})
afterAll(async () => await forker.stop())

const inTheServersWay = async (body: (tx: pg.Client) => Promise<void>) => await inTheWay(forker.wire.house.databaseUrl, body)
const ownPatterns = `SELECT pg_advisory_xact_lock(hashtextextended('default subscription patterns', 0))`
const json = { headers: { 'content-type': 'application/json' } }
const pulls = (name: string, more: object) => ({ type: 'pull-wake', wake_stream: `wakes/${name}`, ...more })

/** As after a wake that was given back: its work is pending, and nobody has begun the next. */
const atRest = async (name: string) =>
  await forker.wire.sql(
    'UPDATE subscriptions SET wake_id = NULL, wake_path = NULL, wake_entity_url = NULL, started_at = NULL, due_at = NULL WHERE id = $1',
    name,
  )

describe('who waits for a lock holds nothing that comes after it:', () => {
  it('a fork and a spawn that wait for a pattern hold no entity', async () => {
    const source = await forker.root()
    const spawned = `/chat/${forker.id()}`

    await inTheServersWay(async (tx) => {
      await tx.query(ownPatterns)
      const waiting = [forker.fork(source), forker.wire.spawn(spawned)]
      await untilWaitedFor(tx, 2)
      await tx.query('SELECT FROM entities WHERE url = $1 FOR UPDATE NOWAIT', [source])
      await tx.query(`SELECT FROM entity_types WHERE name = 'chat' FOR UPDATE NOWAIT`)
      const { rows } = await tx.query(
        `SELECT relation::regclass::text AS name FROM pg_locks
          WHERE mode = 'RowExclusiveLock' AND relation = 'entities'::regclass AND pg_backend_pid() = ANY (pg_blocking_pids(pid))`,
      )
      expect(rows).toEqual([])
      await tx.query('COMMIT')
      expect((await Promise.all(waiting)).map(({ status }) => status)).toEqual([201, 201])
    })
  })

  it('a fork has made its caller’s entity before it waits for a stream', async () => {
    const caller = `user:${forker.id('new')}`
    const mine = `/chat/${forker.id('mine')}`
    await forker.wire.spawned(mine)
    await forker.wire.sql('UPDATE entities SET created_by = $2 WHERE url = $1', mine, `/principal/${encodeURIComponent(caller)}`)

    await inTheServersWay(async (tx) => {
      await tx.query('SELECT FROM streams WHERE path = $1 FOR UPDATE', [`${mine}/main`])
      const waiting = forker.fork(mine, {}, { as: caller })
      await untilWaitedFor(tx)
      const { rows } = await tx.query('SELECT FROM entities WHERE url = $1', [`/principal/${encodeURIComponent(caller)}`])
      expect(rows).toHaveLength(1)
      await tx.query('COMMIT')
      expect((await waiting).status).toBe(201)
    })
  })

  it('a stream that is made where its name is linked waits for the subscription before it touches the link', async () => {
    const [name, path] = [subscriber.fresh('early'), `/early/${forker.id('stream')}`]
    await subscriber.made(name, pulls(name, { pattern: 'early/**', streams: [path.slice(1)] }))
    await forker.wire.sql('UPDATE subscription_links SET acked = $2 WHERE path = $1', path, `${'0'.repeat(16)}_${'9'.repeat(16)}`) // of a former stream

    await inTheServersWay(async (tx) => {
      await tx.query('SELECT FROM subscriptions WHERE id = $1 FOR NO KEY UPDATE', [name])
      const waiting = forker.wire.ask('PUT', path, [{ a: 1 }], json)
      await untilWaitedFor(tx)
      await tx.query('SELECT FROM subscription_links WHERE path = $1 FOR UPDATE NOWAIT', [path])
      await tx.query('COMMIT')
      expect((await waiting).status).toBe(201)
    })

    const [link] = await forker.wire.sql('SELECT acked FROM subscription_links WHERE path = $1', path)
    expect(link).toEqual({ acked: '-1' }) // all of the new stream is news
    expect(await forker.wire.sql('SELECT wake_path FROM subscriptions WHERE id = $1', name)).toEqual([{ wake_path: path }])
    await subscriber.delete(name)
  })

  it('a subscription whose wake begins while its deletion waits is let go until the wake’s entity is held', async () => {
    const [name, entity] = [subscriber.fresh('gone'), await forker.root()]
    await subscriber.made(name, pulls(name, { streams: [`${entity.slice(1)}/main`] }))
    const waiting: Promise<unknown>[] = []

    await inTheServersWay(async (owner) => {
      await owner.query('SELECT FROM entities WHERE url = $1 FOR NO KEY UPDATE', [entity])
      await inTheServersWay(async (tx) => {
        await tx.query('SELECT FROM subscriptions WHERE id = $1 FOR NO KEY UPDATE', [name])
        waiting.push(subscriber.delete(name))
        await untilWaitedFor(tx)
        await tx.query(`UPDATE subscriptions SET wake_id = 'w_lock', wake_entity_url = $2, wake_path = $3 WHERE id = $1`, [
          name,
          entity,
          `${entity}/main`,
        ])
      })
      await untilWaitedFor(owner)
      await owner.query('SELECT FROM subscriptions WHERE id = $1 FOR UPDATE NOWAIT', [name])
    })

    await Promise.all(waiting)
    expect(await forker.wire.sql('SELECT FROM subscriptions WHERE id = $1', name)).toEqual([])
  })

  it('a link that is added waits for the wake’s entity before it holds the stream', async () => {
    const [name, entity, other] = [subscriber.fresh('added'), await forker.root(), await forker.root()]
    await subscriber.made(name, pulls(name, { streams: [`${entity.slice(1)}/main`] }))
    expectStatus(200, await forker.wire.send(entity, { payload: 1 }))

    await inTheServersWay(async (tx) => {
      await tx.query('SELECT FROM entities WHERE url = $1 FOR NO KEY UPDATE', [entity])
      const waiting = subscriber.ask('POST', `${name}/streams`, { streams: [`${other.slice(1)}/main`] })
      await untilWaitedFor(tx)
      await tx.query('SELECT FROM streams WHERE path = $1 FOR UPDATE NOWAIT', [`${other}/main`])
      await tx.query('COMMIT')
      expect((await waiting).status).toBeLessThan(300)
    })
    await subscriber.delete(name)
  })

  it('a claim that begins a wake itself waits for the wake’s entity before it holds the subscription', async () => {
    const [name, entity] = [subscriber.fresh('begun'), await forker.root()]
    await subscriber.made(name, pulls(name, { pattern: `${entity.slice(1)}/**` }))
    expectStatus(200, await forker.wire.send(entity, { payload: 1 }))
    await atRest(name)

    await inTheServersWay(async (tx) => {
      await tx.query('SELECT FROM entities WHERE url = $1 FOR NO KEY UPDATE', [entity])
      const waiting = subscriber.claimed(name, 'worker')
      await untilWaitedFor(tx)
      await tx.query('SELECT FROM subscriptions WHERE id = $1 FOR UPDATE NOWAIT', [name])
      await tx.query('COMMIT')
      expect((await waiting).streams).toMatchObject([{ path: `${entity.slice(1)}/main`, has_pending: true }])
    })

    expect(await forker.wire.sql('SELECT status FROM entities WHERE url = $1', entity)).toEqual([{ status: 'running' }])
    await subscriber.delete(name)
  })

  it('a claim that waits for a subscription whose wake begins meanwhile lets it go until the wake’s entity is held', async () => {
    const [name, entity] = [subscriber.fresh('met'), await forker.root()]
    await subscriber.made(name, pulls(name, { pattern: `${entity.slice(1)}/**` }))
    expectStatus(200, await forker.wire.send(entity, { payload: 1 }))
    await atRest(name)
    const waiting: Promise<unknown>[] = []

    await inTheServersWay(async (owner) => {
      await owner.query('SELECT FROM entities WHERE url = $1 FOR NO KEY UPDATE', [entity])
      await inTheServersWay(async (tx) => {
        await tx.query('SELECT FROM subscriptions WHERE id = $1 FOR NO KEY UPDATE', [name])
        waiting.push(subscriber.claimed(name, 'worker'))
        await untilWaitedFor(tx)
        await tx.query(`UPDATE subscriptions SET wake_id = 'w_met', wake_entity_url = $2, wake_path = $3 WHERE id = $1`, [
          name,
          entity,
          `${entity}/main`,
        ])
      })
      await untilWaitedFor(owner)
      await owner.query('SELECT FROM subscriptions WHERE id = $1 FOR UPDATE NOWAIT', [name])
    })

    expect(await Promise.all(waiting)).toMatchObject([{ wake_id: 'w_met' }])
    await subscriber.delete(name)
  })

  it('nobody waits for the entity of a wake that is no more', async () => {
    const [name, path] = [subscriber.fresh('gone'), `ghosts/${forker.id()}`]
    await subscriber.made(name, pulls(name, { pattern: 'ghosts/**' }))
    await subscriber.streamWith(path, { a: 1 })
    await forker.wire.sql(`UPDATE subscriptions SET wake_entity_url = '/chat/ghost' WHERE id = $1`, name)

    expect((await subscriber.claimed(name, 'worker')).streams).toMatchObject([{ path, has_pending: true }])
    expect((await subscriber.delete(name)).status).toBe(204)
  })
})
