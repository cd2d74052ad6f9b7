/**
 * Signatures of webhooks, and the key set that they are verified with (spec/06 §5).
 *
 * S1  Keys, and who signs when, are rows: every replica publishes the same set and signs with the same key, over restarts too.
 * S2  Whoever asks for the key set is shown each key for longer than receivers remember a set before it signs, the tenant's first one
 *     excepted; and for longer than they accept a signature after it last signed. Both times are `signingKeyOverlapMs`.
 * S3  What memory holds is at most `cacheMs` old, and what the database shows ten seconds (`signingTransaction`): the overlap exceeds what
 *     receivers remember by more than both (`least` of its limit).
 * S4  Time is the database's, carried forward by the clock of this process: signatures of two replicas never disagree about it.
 * S5  A private key is in its row and here: in no log, no answer, no error.
 *
 * A crash at any line leaves the turns as they were, or one more. Replicas are to be configured alike; where they are not, the last one that
 * started has its way, with the same overlap.
 */
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import type { SigningReport } from '../activities/parts.js'
import type { Limits } from '../domain/limits.js'
import {
  isOutlived,
  type PublicSigningKey,
  parseSigningKey,
  privateKeyOf,
  publishedKeys,
  type SigningKey,
  type SigningTurn,
  signingKeyOf,
  turnAt,
} from '../domain/signing-keys.js'
import type { Database, Transaction } from '../registry/database.js'
import { addSigningTurn, forgetRetiredKeys, type SigningRows, signingRows, signingTransaction } from '../registry/signing-keys.js'

/** S3. */
const cacheMs = 5_000

export interface SigningOptions {
  readonly database: Database
  /** PEM or JWK text, as configured; absent: the server makes its own keys. */
  readonly configuredKey?: string
  readonly limits: Pick<Limits, 'signingKeyOverlapMs' | 'signingKeyLifeMs'>
}

/** What a subscription says about its signatures. */
export interface SigningMetadata {
  readonly kid: string
  readonly alg: 'ed25519'
}

/** Rows as they were at one moment. */
interface Seen extends SigningRows {
  readonly monotonicMs: number
  readonly wallMs: number
  /** Made when they are first needed, which of most keys is never. */
  readonly privateKeys: Map<string, KeyObject>
}

export class Signing {
  readonly #database: Database
  readonly #configured: SigningKey | null
  readonly #limits: SigningOptions['limits']
  #seen: Promise<Seen> | undefined

  /** Throws where the configured key is no Ed25519 private key. */
  constructor({ database, configuredKey, limits }: SigningOptions) {
    this.#database = database
    this.#limits = limits
    this.#configured = configuredKey === undefined ? null : parseSigningKey(configuredKey)
    if (configuredKey !== undefined && this.#configured === null) throw new Error('Webhook signing key must be an Ed25519 private key')
  }

  /** When a server starts: the configured key, or one of our own where none is configured, has the last turn. Replicas may start at once. */
  async ensureKey(): Promise<void> {
    await this.#change(async (tx) => {
      const last = (await signingRows(tx)).turns.at(-1)
      const isRight = this.#configured === null ? last?.isConfigured === false : last?.key.kid === this.#configured.kid
      if (!isRight) await this.#addTurn(tx)
    })
  }

  /** The value of `webhook-signature` for a body, to be sent within seconds. */
  async header(body: Buffer | string): Promise<string> {
    const { seen, turn, nowMs } = await this.#now()
    const t = Math.floor(nowMs / 1_000)
    const signed = Buffer.concat([Buffer.from(`${t}.`), Buffer.from(body)])
    return `t=${t},kid=${turn.key.kid},ed25519=${sign(null, signed, privateKeyIn(seen, turn.key)).toString('base64url')}`
  }

  /** The key that signs now; it is in the key set. */
  async current(): Promise<SigningMetadata> {
    const { turn } = await this.#now()
    return { kid: turn.key.kid, alg: 'ed25519' }
  }

  /** The key set: every key that a receiver may meet, or still meets. */
  async jwks(): Promise<{ readonly keys: readonly PublicSigningKey[] }> {
    const { seen } = await this.#now()
    return { keys: publishedKeys(seen.turns) }
  }

  /** A new key signs as soon as it has been published for the overlap. Where one waits already, that is the new one. */
  async rotate(): Promise<void> {
    if (this.#configured !== null) throw new Error('The signing key is configured: it is rotated by configuring another one')
    await this.#change(async (tx) => {
      const { turns, nowMs } = await signingRows(tx)
      if (turns.at(-1) === turnAt(turns, nowMs)) await this.#addTurn(tx)
    })
  }

  /** For the sweep: ends the turn of a key that has lived long enough, and forgets those that nobody needs any more. */
  async maintain(): Promise<SigningReport> {
    return await this.#change(async (tx) => {
      const { turns, nowMs } = await signingRows(tx)
      const rotated = this.#configured === null && isOutlived(turns, nowMs, this.#limits.signingKeyLifeMs)
      if (rotated) await this.#addTurn(tx)
      return { rotated, forgottenKeys: await forgetRetiredKeys(tx, this.#limits.signingKeyOverlapMs) }
    })
  }

  async #addTurn(tx: Transaction): Promise<void> {
    const key = this.#configured ?? newKey()
    await addSigningTurn(tx, { ...key, isConfigured: this.#configured !== null }, this.#limits.signingKeyOverlapMs)
  }

  async #change<Result>(body: (tx: Transaction) => Promise<Result>): Promise<Result> {
    const result = await signingTransaction(this.#database, body)
    this.#seen = undefined
    return result
  }

  async #now(): Promise<{ readonly seen: Seen; readonly turn: SigningTurn; readonly nowMs: number }> {
    const seen = await this.#freshRows()
    const nowMs = seen.nowMs + elapsedSince(seen)
    const turn = turnAt(seen.turns, nowMs)
    if (turn !== undefined) return { seen, turn, nowMs }
    await this.#firstKey()
    return await this.#now()
  }

  /** A worker may be up before the first server. One that is not configured like the server must not take its key from it. */
  async #firstKey(): Promise<void> {
    await this.#change(async (tx) => {
      if ((await signingRows(tx)).turns.length === 0) await this.#addTurn(tx)
    })
  }

  /** S3. Callers share one look; a failed one is not kept. */
  async #freshRows(): Promise<Seen> {
    const known = this.#seen
    if (known !== undefined) {
      const seen = await known
      if (isFresh(seen)) return seen
    }
    if (this.#seen === known) {
      const looking = this.#look()
      this.#seen = looking
      looking.catch(() => {
        if (this.#seen === looking) this.#seen = undefined
      })
    }
    return await this.#freshRows()
  }

  async #look(): Promise<Seen> {
    const rows = await signingRows(this.#database)
    return { ...rows, monotonicMs: performance.now(), wallMs: Date.now(), privateKeys: new Map() }
  }
}

function newKey(): SigningKey {
  const key = signingKeyOf(generateKeyPairSync('ed25519').privateKey)
  if (key === null) throw new Error('a new key has both its parts')
  return key
}

const elapsedSince = ({ monotonicMs }: Seen): number => performance.now() - monotonicMs

/** The monotonic clock stands still while a machine sleeps, the other one may be set: a look must be young by both. */
const isFresh = (seen: Seen): boolean => elapsedSince(seen) < cacheMs && Math.abs(Date.now() - seen.wallMs) < cacheMs

function privateKeyIn({ privateKeys }: Seen, key: SigningKey): KeyObject {
  const known = privateKeys.get(key.kid) ?? privateKeyOf(key)
  privateKeys.set(key.kid, known)
  return known
}
