/** Who sent this delivery? The receiver's side of spec/06 §5: header, age, published keys, signature. */
import { createPublicKey, type KeyObject, verify } from 'node:crypto'
import { z } from 'zod'
import { jsonOf } from './wake.js'

export interface SignatureRefusal {
  readonly status: 401 | 503
  readonly error: string
}

const toleranceSeconds = 300
const defaultMaxAgeSeconds = 300
const answerWithinMs = 5_000

const keySet = z.looseObject({
  keys: z
    .array(z.looseObject({ kty: z.literal('OKP'), crv: z.literal('Ed25519'), x: z.string(), kid: z.string() }))
    .min(1)
    .transform((keys) => new Map(keys.map(({ kty, crv, x, kid }) => [kid, createPublicKey({ key: { kty, crv, x }, format: 'jwk' })]))),
})

/** Keeps the published keys for as long as the server allows. */
export class Signatures {
  readonly #url: string
  #keys: ReadonlyMap<string, KeyObject> = new Map()
  #keptUntilMs = 0

  constructor(serverUrl: string) {
    this.#url = `${serverUrl}/__ds/jwks.json`
  }

  /** Undefined: the server sent `body`, just now. */
  async refusal(header: string | undefined, body: Buffer): Promise<SignatureRefusal | undefined> {
    if (header === undefined || header === '') return refused('Missing webhook signature')
    const { t, kid, ed25519 } = partsOf(header)
    if (t === undefined || !/^\d{1,15}$/.test(t) || kid === undefined || ed25519 === undefined) return refused('Invalid webhook signature')
    if (Math.abs(Date.now() / 1_000 - Number(t)) > toleranceSeconds) return refused('Webhook signature expired')
    const problem = await this.#refresh()
    if (problem !== undefined) return { status: 503, error: problem }
    const key = this.#keys.get(kid)
    if (key === undefined) return refused('Unknown webhook signing key')
    const signed = Buffer.concat([Buffer.from(`${t}.`, 'ascii'), body])
    return verify(null, signed, key, Buffer.from(ed25519, 'base64url')) ? undefined : refused('Invalid webhook signature')
  }

  async #refresh(): Promise<string | undefined> {
    if (performance.now() < this.#keptUntilMs) return undefined
    const headers = { accept: 'application/jwk-set+json, application/json' }
    const response = await fetch(this.#url, { headers, signal: AbortSignal.timeout(answerWithinMs) }).catch(() => undefined)
    if (response?.ok !== true) return `JWKS fetch failed: ${response?.status ?? 'no answer'}`
    const parsed = safeKeys(await response.text())
    if (parsed === undefined) return 'JWKS response did not contain Ed25519 keys'
    const maxAge = /(?:^|[\s,])max-age=(\d{1,9})/.exec(response.headers.get('cache-control') ?? '')?.[1]
    this.#keys = parsed
    this.#keptUntilMs = performance.now() + Number(maxAge ?? defaultMaxAgeSeconds) * 1_000
    return undefined
  }
}

const refused = (error: string): SignatureRefusal => ({ status: 401, error })

/** `t`, `kid` and `ed25519` in any order. */
function partsOf(header: string): Readonly<Record<string, string | undefined>> {
  const pairs = header.split(',').map((part): [string, string] => {
    const at = part.indexOf('=')
    return [part.slice(0, Math.max(at, 0)).trim(), part.slice(at + 1).trim()]
  })
  return Object.fromEntries(pairs.filter(([, value]) => value !== ''))
}

/** One key that is none makes the whole set unusable. */
function safeKeys(text: string): ReadonlyMap<string, KeyObject> | undefined {
  try {
    return keySet.parse(jsonOf(text)).keys
  } catch {
    return undefined
  }
}
