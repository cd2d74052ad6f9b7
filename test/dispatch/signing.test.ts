/** Signatures of webhooks as their receivers see them: verified with the published set alone, by two replicas' keys, over rotations. */
import { createPublicKey, generateKeyPairSync, type KeyObject, verify } from 'node:crypto'
import fc from 'fast-check'
import { Signing } from '../../src/dispatch/signing.js'
import { defaultLimits } from '../../src/domain/limits.js'
import { Database, sql, type Transaction } from '../../src/registry/database.js'
import { signingTransaction } from '../../src/registry/signing-keys.js'
import { eventually } from '../support/eventually.js'
import { type FreshDatabase, freshDatabase } from '../support/postgres.js'

const overlapS = defaultLimits.signingKeyOverlapMs / 1_000
const lifeS = defaultLimits.signingKeyLifeMs / 1_000

const pemOf = (key: KeyObject): string => key.export({ type: 'pkcs8', format: 'pem' }).toString()
const jwkOf = (key: KeyObject): string => JSON.stringify(key.export({ format: 'jwk' }))
const configuredKey = (): string => pemOf(generateKeyPairSync('ed25519').privateKey)

interface Published {
  readonly keys: readonly { readonly kid: string; readonly x: string }[]
}

interface Signature {
  readonly t: number
  readonly kid: string
  readonly bytes: Buffer
}

function parse(header: string): Signature {
  const [, t, kid = '', signature = ''] = /^t=(\d+),kid=(ds_[\w-]{43}),ed25519=([\w-]{86})$/.exec(header) ?? []
  return { t: Number(t), kid, bytes: Buffer.from(signature, 'base64url') }
}

/** As the receiver in the runtime does it: the key by its id, out of the set. */
function isVerifiedBy({ keys }: Published, header: string, body: Buffer | string): boolean {
  const { t, kid, bytes } = parse(header)
  const jwk = keys.find((key) => key.kid === kid)
  if (jwk === undefined) return false
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: jwk.x }, format: 'jwk' })
  return verify(null, Buffer.concat([Buffer.from(`${t}.`), Buffer.from(body)]), key, bytes)
}

describe('webhook signing', () => {
  let fresh: FreshDatabase
  beforeEach(async () => {
    fresh = await freshDatabase()
  })
  afterEach(async () => await fresh.drop())

  /** One more process; it remembers nothing. */
  const replica = (key?: string): Signing =>
    new Signing({ database: fresh.database, limits: defaultLimits, ...(key === undefined ? {} : { configuredKey: key }) })

  const started = async (key?: string): Promise<Signing> => {
    const signing = replica(key)
    await signing.ensureKey()
    return signing
  }

  /** Everything that the database knows happened so much earlier. */
  async function pass(seconds: number): Promise<void> {
    await fresh.database.query(sql`UPDATE signing_keys SET created_at = created_at - make_interval(secs => ${seconds})`)
    await fresh.database.query(sql`UPDATE signing_turns SET signs_from = signs_from - make_interval(secs => ${seconds})`)
  }

  /** A change that has done `work`, and commits when it is told to. */
  async function midway(work: (tx: Transaction) => Promise<unknown>): Promise<{ readonly change: Promise<void>; goOn(): void }> {
    let goOn = () => {}
    const told = new Promise<void>((resolve) => {
      goOn = resolve
    })
    const change = await new Promise<{ readonly done: Promise<void> }>((resolve) => {
      const done: Promise<void> = signingTransaction(fresh.database, async (tx) => {
        await work(tx)
        resolve({ done })
        await told
      })
      done.catch(() => undefined) // the test looks
    })
    return { change: change.done, goOn: () => goOn() }
  }

  /** The database, of which statements outside of transactions are answered by `query` while `isSo`. */
  const insteadOf = (query: Database['query'], isSo: () => boolean): Database =>
    new Proxy(fresh.database, {
      get: (database, name) => {
        if (name === 'query' && isSo()) return query
        const member: unknown = Reflect.get(database, name, database)
        return typeof member === 'function' ? member.bind(database) : member
      },
    })

  const signer = async (): Promise<string> => (await replica().current()).kid
  const published = async (): Promise<string[]> => (await replica().jwks()).keys.map(({ kid }) => kid).sort()
  const maintained = async (signing = replica()): Promise<string[]> => {
    await signing.maintain()
    return await published()
  }
  const sorted = (...kids: string[]): string[] => [...kids].sort()

  describe('a signature', () => {
    it('is verified with the published set, over the time and the raw bytes', async () => {
      const signing = await started()
      const body = Buffer.from([0xff, 0x00, 0x7b, 0x7d])

      const header = await signing.header(body)

      const { keys } = await signing.jwks()
      expect(keys).toEqual([
        {
          kty: 'OKP',
          crv: 'Ed25519',
          x: expect.stringMatching(/^[\w-]{43}$/),
          kid: (await signing.current()).kid,
          use: 'sig',
          alg: 'EdDSA',
        },
      ])
      expect(isVerifiedBy({ keys }, header, body)).toBe(true)
      expect(isVerifiedBy({ keys }, header, Buffer.from([0xff, 0x00, 0x7b, 0x7c]))).toBe(false)
      expect(
        isVerifiedBy(
          { keys },
          header.replace(/t=(\d+)/, (_, t) => `t=${Number(t) + 1}`),
          body,
        ),
      ).toBe(false)
    })

    it('holds for every body, as text and as bytes', async () => {
      const signing = await started()
      const set = await signing.jwks()

      await fc.assert(
        fc.asyncProperty(fc.oneof(fc.uint8Array({ maxLength: 5_000 }).map(Buffer.from), fc.string({ unit: 'binary' })), async (body) => {
          expect(isVerifiedBy(set, await signing.header(body), body)).toBe(true)
        }),
      )
    })

    it('tells the time of the database, not of its process', async () => {
      const signing = await started()
      const clock = Date.now
      Date.now = () => clock() + 3_600_000

      const header = await signing.header('{}').finally(() => {
        Date.now = clock
      })

      const { rows } = await fresh.database.query(sql`SELECT extract(epoch FROM now())::float8 AS now`)
      expect(Math.abs(Number(rows[0]?.now) - parse(header).t)).toBeLessThan(5)
    })

    it('is made by a process that nobody told to make a key first', async () => {
      const worker = replica()

      const header = await worker.header('{}')

      expect(isVerifiedBy(await replica().jwks(), header, '{}')).toBe(true)
    })
  })

  describe('replicas', () => {
    it('that start at once share one key', async () => {
      const replicas = await Promise.all(Array.from({ length: 12 }, async () => await started()))

      const kids = await Promise.all(replicas.map(async (one) => (await one.current()).kid))
      expect(new Set(kids).size).toBe(1)
      expect(await published()).toEqual([kids[0]])
    })

    it('that first sign at once, without a start, share one key too', async () => {
      const headers = await Promise.all(Array.from({ length: 12 }, async () => await replica().header('{}')))

      expect(new Set(headers.map((header) => parse(header).kid)).size).toBe(1)
      expect(await published()).toHaveLength(1)
    })

    it('verify each other, and keep the key over a restart', async () => {
      const [one, other] = [await started(), await started()]
      const header = await one.header('{}')

      expect(isVerifiedBy(await other.jwks(), header, '{}')).toBe(true)
      expect((await (await started()).current()).kid).toBe(parse(header).kid)
    })

    it('learn within seconds of a key that another one made, long before it signs', async () => {
      const [one, other] = [await started(), await started()]
      await other.jwks()

      await one.rotate()

      await eventually(async () => (await other.jwks()).keys.length === 2, { withinMs: 10_000 })
      expect(await other.current()).toEqual(await one.current())
    })

    it('of different tenants have different keys', async () => {
      const elsewhere = new Database({ url: fresh.url, tenant: 'other', poolMax: 2 })
      const foreign = new Signing({ database: elsewhere, limits: defaultLimits })
      const own = await started()

      const header = await foreign.header('{}')

      expect(isVerifiedBy(await own.jwks(), header, '{}')).toBe(false)
      expect((await own.jwks()).keys).toHaveLength(1)
      await own.maintain()
      expect(isVerifiedBy(await foreign.jwks(), header, '{}')).toBe(true)
      await elsewhere.close()
    })

    it('count a key as published from when it is written, however long its process had to wait', async () => {
      await started()
      const other = await midway(async () => undefined)
      const rotation = replica().rotate()
      const isWaiting = async () =>
        (await fresh.database.query(sql`SELECT FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()`))
          .count === 1
      await eventually(isWaiting)

      const { rows } = await fresh.database.query(sql`SELECT clock_timestamp() AS before`)
      other.goOn()
      await Promise.all([other.change, rotation])

      const written = await fresh.database.query(sql`
        SELECT count(*) AS count FROM signing_keys k JOIN signing_turns t USING (kid)
         WHERE created_at > ${rows[0]?.before} AND signs_from >= created_at + make_interval(secs => ${overlapS})`)
      expect(written.rows).toEqual([{ count: 1 }])
    })

    it('are not held up by one that freezes in the middle of a change, whose change is lost', async () => {
      await started()
      const frozen = await midway(async (tx) => await tx.query(sql`DELETE FROM signing_turns`))

      await replica().rotate()
      frozen.goOn()

      await expect(frozen.change).rejects.toThrow()
      expect(await published()).toHaveLength(2)
    })

    it('leave a configured key alone that came while they looked for one', async () => {
      let looks = 0
      const empty = async () => {
        looks += 1
        return { rows: [], count: 0 }
      }
      const worker = new Signing({ limits: defaultLimits, database: insteadOf(empty, () => looks === 0) })
      const server = await started(configuredKey())

      const header = await worker.header('{}')

      expect(looks).toBe(1)
      expect(await published()).toEqual([(await server.current()).kid])
      expect(parse(header).kid).toBe((await server.current()).kid)
    })

    it('sign again after Postgres could not be asked', async () => {
      let isDown = true
      const signing = new Signing({
        limits: defaultLimits,
        database: insteadOf(
          async () => await Promise.reject(new Error('down')),
          () => isDown,
        ),
      })

      await expect(Promise.all([signing.header('{}'), signing.jwks()])).rejects.toThrow('down')
      isDown = false

      expect(isVerifiedBy(await signing.jwks(), await signing.header('{}'), '{}')).toBe(true)
    })
  })

  describe('a rotation', () => {
    it('publishes the new key before it signs, and the former one after it signed, each for the overlap', async () => {
      const former = (await (await started()).current()).kid

      await replica().rotate()
      const next = (await published()).find((kid) => kid !== former) ?? ''

      await pass(overlapS - 2)
      expect([await maintained(), await signer()]).toEqual([sorted(former, next), former])
      await pass(3)
      expect([await maintained(), await signer()]).toEqual([sorted(former, next), next])
      await pass(overlapS - 3)
      expect([await maintained(), await signer()]).toEqual([sorted(former, next), next])
      await pass(3)
      expect([await maintained(), await signer()]).toEqual([[next], next])
    })

    it('never leaves a signature that is 300 s old without its key, nor meets a receiver whose set is 300 s old', async () => {
      const signing = await started()
      await signing.rotate()
      const seen: { readonly at: number; readonly kid: string; readonly set: readonly string[] }[] = []

      for (let at = 0; at <= 2 * overlapS + 60; at += 30) {
        seen.push({ at, kid: await signer(), set: await maintained() })
        await pass(30)
      }

      expect(new Set(seen.map(({ kid }) => kid)).size).toBe(2)
      for (const { at, kid } of seen) expect(seen.filter((look) => Math.abs(look.at - at) <= 300 && !look.set.includes(kid))).toEqual([])
      expect(seen.at(-1)?.set).toEqual([seen.at(-1)?.kid])
    })

    it('happens once a key is old, however many replicas look after it', async () => {
      const former = (await (await started()).current()).kid
      await pass(lifeS - 60)
      expect(await maintained()).toEqual([former])
      await pass(61)

      const reports = await Promise.all(Array.from({ length: 6 }, async () => await replica().maintain()))

      expect(reports.filter(({ rotated }) => rotated)).toHaveLength(1)
      expect([(await published()).length, await signer()]).toEqual([2, former])
      await pass(overlapS + 1)
      expect(await signer()).not.toBe(former)
      expect((await maintained()).length).toBe(2)
    })

    it('waits for the one before: keys never pile up, however short their life and whoever asks', async () => {
      await started()
      const impatient = new Signing({ database: fresh.database, limits: { ...defaultLimits, signingKeyLifeMs: 1 } })

      for (let round = 0; round < 5; round += 1) await Promise.all([impatient.maintain(), impatient.rotate(), impatient.rotate()])

      expect(await published()).toHaveLength(2)
    })

    it('keeps verifying what was signed right before and right after it', async () => {
      const before = await (await started()).header('before')
      await replica().rotate()
      await pass(overlapS + 1)
      const after = await replica().header('after')

      await replica().maintain()

      expect(parse(after).kid).not.toBe(parse(before).kid)
      const set = await replica().jwks()
      expect([isVerifiedBy(set, before, 'before'), isVerifiedBy(set, after, 'after')]).toEqual([true, true])
    })
  })

  describe('a configured key', () => {
    const { privateKey } = generateKeyPairSync('ed25519')
    const forms: readonly (readonly [string, string])[] = [
      ['PEM', pemOf(privateKey)],
      ['PEM with written line breaks', pemOf(privateKey).replaceAll('\n', '\\n')],
      ['PEM with written line breaks of Windows', pemOf(privateKey).replaceAll('\n', '\\r\\n')],
      ['JWK', jwkOf(privateKey)],
    ]

    it.each(forms)('signs at once where there was none: %s', async (_form, key) => {
      const signing = await started(key)

      const header = await signing.header('{}')

      const { x } = privateKey.export({ format: 'jwk' })
      expect((await signing.jwks()).keys).toEqual([expect.objectContaining({ x, kid: parse(header).kid })])
      expect(isVerifiedBy(await replica().jwks(), header, '{}')).toBe(true)
    })

    it('has the id of RFC 7638', async () => {
      const jwk =
        '{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}'

      expect((await (await started(jwk)).current()).kid).toBe('ds_kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k') // RFC 8037, appendix A.3
    })

    it('takes over from a key of our own after the overlap, and does not grow old', async () => {
      const own = (await (await started()).current()).kid
      const configured = await started(configuredKey())

      expect([(await published()).length, (await configured.current()).kid]).toEqual([2, own])
      await pass(overlapS + 1)
      const kid = await signer()
      await pass(lifeS * 2)
      expect([await maintained(configured), await maintained(), await signer()]).toEqual([[kid], [kid], kid])
    })

    it('takes over from the one that was configured before, which stays published for the overlap', async () => {
      const [first, second] = [configuredKey(), configuredKey()]
      const former = (await (await started(first)).current()).kid

      await Promise.all([started(second), started(second)])

      expect([await signer(), (await published()).length]).toEqual([former, 2])
      await pass(overlapS + 1)
      const next = await signer()
      expect(await maintained()).toEqual(sorted(former, next))
      await pass(overlapS + 1)
      expect(await maintained()).toEqual([next])
    })

    it('that is taken back is ready at once while it is published, and its rival never signs', async () => {
      const [first, second] = [configuredKey(), configuredKey()]
      const kid = (await (await started(first)).current()).kid
      await pass(overlapS + 1)
      await started(second)

      await started(first)

      for (let at = 0; at <= 3 * overlapS; at += 60) {
        expect([await signer(), (await maintained()).includes(kid)]).toEqual([kid, true])
        await pass(60)
      }
      expect(await published()).toEqual([kid])
    })

    it('changes hands over and over without an unpublished key ever signing', async () => {
      const keys = [configuredKey(), configuredKey(), undefined]

      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.record({ at: fc.integer({ min: 0, max: 2 }), passes: fc.constantFrom(1, 100, 301, 599, 601, 1_300) }), {
            maxLength: 8,
          }),
          async (steps) => {
            await fresh.database.query(sql`DELETE FROM signing_turns`)
            await fresh.database.query(sql`DELETE FROM signing_keys`)
            const firstSeen = new Map<string, number>()
            let now = 0
            for (const { at, passes } of steps) {
              await started(keys[at])
              await replica().maintain()
              const set = await published()
              const kid = await signer()
              const isFirst = firstSeen.size === 0
              for (const one of set) if (!firstSeen.has(one)) firstSeen.set(one, isFirst ? Number.NEGATIVE_INFINITY : now)
              for (const one of firstSeen.keys()) if (!set.includes(one)) firstSeen.delete(one)
              expect(now - (firstSeen.get(kid) ?? Number.NaN)).toBeGreaterThanOrEqual(overlapS)
              await pass(passes)
              now += passes
            }
          },
        ),
        { numRuns: 30 },
      )
    })

    it('that is no longer configured gives way to one of our own after the overlap', async () => {
      const former = (await (await started(configuredKey())).current()).kid

      await started()

      expect(await signer()).toBe(former)
      await pass(overlapS + 1)
      expect(await signer()).not.toBe(former)
    })

    it('is rotated by configuring another one', async () => {
      const signing = await started(configuredKey())

      await expect(signing.rotate()).rejects.toThrow('configured')
      expect(await published()).toHaveLength(1)
    })

    const ed25519 = generateKeyPairSync('ed25519')
    it.each([
      ['nothing', ''],
      ['text', 'hello'],
      ['a cut PEM', pemOf(ed25519.privateKey).slice(0, 60)],
      ['a public key', ed25519.publicKey.export({ type: 'spki', format: 'pem' }).toString()],
      ['a public JWK', jwkOf(ed25519.publicKey)],
      ['a JWK whose public part is of another key', JSON.stringify({ ...ed25519.privateKey.export({ format: 'jwk' }), x: 'A'.repeat(43) })],
      ['a JWK of numbers', '{"kty":"OKP","crv":"Ed25519","x":1,"d":2}'],
      ['a JWK with a short secret', '{"kty":"OKP","crv":"Ed25519","x":"AA","d":"AA"}'],
      ['an array', '[]'],
      ['broken JSON', '{"kty":'],
      ['an encrypted PEM', ed25519.privateKey.export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'x' }).toString()],
      ['RSA', pemOf(generateKeyPairSync('rsa', { modulusLength: 1_024 }).privateKey)],
      ['P-256', jwkOf(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey)],
      ['X25519', pemOf(generateKeyPairSync('x25519').privateKey)],
      ['X25519 as JWK', jwkOf(generateKeyPairSync('x25519').privateKey)],
      ['Ed448', pemOf(generateKeyPairSync('ed448').privateKey)],
    ])('is refused where it is %s, without being quoted', (_what, key) => {
      expect(() => replica(key)).toThrow(/^Webhook signing key must be an Ed25519 private key$/)
    })

    it('is refused where it is anything else', () => {
      fc.assert(
        fc.property(fc.oneof(fc.string({ minLength: 1 }), fc.json(), fc.constant('{"a":'.repeat(50_000))), (key) => {
          expect(() => replica(key)).toThrow('Webhook signing key must be an Ed25519 private key')
        }),
      )
    })
  })

  it('shows nobody a private key', async () => {
    const signing = await started()
    const { rows } = await fresh.database.query(sql`SELECT private_key FROM signing_keys`)

    const shown = JSON.stringify([await signing.jwks(), await signing.current(), await signing.header('{}'), signing])

    expect(shown).not.toContain(String(rows[0]?.private_key))
  })
})
