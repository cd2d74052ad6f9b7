import type { StreamPath } from '../../src/domain/ids.js'
import { defaultLimits } from '../../src/domain/limits.js'
import { Directory } from '../../src/entities/directory.js'
import { Runners } from '../../src/entities/runners.js'
import { wakeStreamFor } from '../../src/entities/wake-streams.js'
import { PostgresStreams } from '../../src/streams/postgres/store.js'
import { principal } from '../http/support/registry-server.js'
import { type FreshDatabase, freshDatabase } from '../support/postgres.js'

describe('a runner becomes available', () => {
  const sam = principal('user:sam')
  let fresh: FreshDatabase
  let streams: PostgresStreams
  let runners: Runners
  let announced: string[] = []
  let isBroken = false

  beforeAll(async () => {
    fresh = await freshDatabase()
    streams = new PostgresStreams({ database: fresh.database })
    runners = new Runners({
      database: fresh.database,
      streams,
      directory: new Directory(fresh.database, defaultLimits),
      limits: defaultLimits,
      onAvailable: async (_, id) => {
        if (isBroken) throw new Error('not now')
        announced.push(id)
        await streams.append(`/runners/${id}/wake` as StreamPath, { contentType: 'application/json', body: Buffer.from('{"type":"wake"}') })
      },
    })
  })
  afterAll(async () => {
    await streams.close()
    await fresh.drop()
  })

  /** Who was announced during `work`. */
  async function during(work: () => Promise<unknown>): Promise<readonly string[]> {
    announced = []
    await work()
    return announced
  }

  it('when it registers, and what is announced then lies behind the offset that it is told', async () => {
    const registering = async () => await runners.register(sam, { id: 'r1', label: 'L' })
    const first = await registering()
    const second = await registering()

    expect(announced).toEqual(['r1', 'r1'])
    expect(await streams.readEvents(first.runner.wake_stream, first.wake_stream_offset, 10)).toMatchObject({ events: [{}, {}] })
    expect(await streams.readEvents(first.runner.wake_stream, second.wake_stream_offset, 10)).toMatchObject({ events: [{}] })
  })

  it('when it is enabled, never while it is disabled', async () => {
    await runners.register(sam, { id: 'r2', label: 'L' })

    expect(await during(() => runners.administer(sam, 'r2', 'disabled'))).toEqual([])
    expect(await during(() => runners.register(sam, { id: 'r2', label: 'L', admin_status: 'enabled' }))).toEqual([])
    expect(await during(() => runners.heartbeat(sam, 'r2', {}))).toEqual([])
    expect(await during(() => runners.administer(sam, 'r2', 'enabled'))).toEqual(['r2'])
  })

  it('with the first heartbeat of all, and the first behind an expired lease', async () => {
    await runners.register(sam, { id: 'r3', label: 'L' })

    expect(await during(() => runners.heartbeat(sam, 'r3', {}))).toEqual(['r3'])
    expect(await during(() => runners.heartbeat(sam, 'r3', { lease_ms: 0 }))).toEqual([])
    expect(await during(() => runners.heartbeat(sam, 'r3', {}))).toEqual(['r3'])
    expect(await during(() => runners.heartbeat(sam, 'r3', {}))).toEqual([])
  })

  it.each([
    ['heartbeat', async (id: string) => await runners.heartbeat(sam, id, {})],
    ['word of its operator', async (id: string) => await runners.administer(sam, id, 'enabled')],
  ])('with the next %s, where what is outstanding could not be announced again', async (what, word) => {
    const id = what.replaceAll(' ', '-')
    await runners.register(sam, { id, label: 'L' })
    await runners.administer(sam, id, 'disabled')
    if (what === 'heartbeat') await runners.administer(sam, id, 'enabled')
    isBroken = true
    await expect(word(id)).rejects.toThrow('not now')
    isBroken = false

    expect(await during(() => word(id))).toEqual([id])
  })
})

describe('the wake stream of a runner', () => {
  it('is its own unless it asks for another', () => {
    expect(wakeStreamFor('r1', undefined)).toBe('/runners/r1/wake')
    expect(wakeStreamFor('my laptop', undefined)).toBe('/runners/my%20laptop/wake')
    for (const own of ['/runners/my laptop/wake', '/runners/my%20laptop/wake', 'runners/my%20laptop/wake'])
      expect(wakeStreamFor('my laptop', own)).toBe('/runners/my%20laptop/wake')
    expect(wakeStreamFor('r1', '/wakes/of/mine')).toBe('/wakes/of/mine')
    expect(wakeStreamFor('r1', 'wakes')).toBe('/wakes')
  })

  it.each(['/runners/r2/wake', '/runners/r%31/wake', 'runners/r2/wake'])('is never that of another: %s', (path) => {
    expect(() => wakeStreamFor('r1', path)).toThrow('is in use by another runner or stream')
  })

  it.each([
    ...['/chat/a/main', '/chat/a/attachments/x', '/_cron/x', '/_entities/x', '/_electric/shared-state/x', '/_electric/x', '/__ds/x'],
    ...[
      '/',
      '',
      '//',
      '/a//b',
      '/a/',
      '/a/../b',
      '/./a',
      '/a%20b',
      '/ch%61t/a/main',
      '/a b',
      '/a?b',
      '/a#b',
      '/a*',
      '/ключ',
      '/a\\b',
      '/a\0',
    ],
    ...['//host/x', `/${'a'.repeat(2_000)}`, '/__agent_ui/x'],
  ])('is no path that has rules, or several spellings: %p', (path) => {
    expect(() => wakeStreamFor('r1', path)).toThrow()
  })
})
