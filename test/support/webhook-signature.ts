/** Who sent this delivery? The receiver's side of spec/06 §5, exactly: header, JWKS and its cache, age, key, signature. */
import { createPublicKey, type KeyObject, verify } from 'node:crypto'
import { z } from 'zod'

export type SignatureVerdict = { readonly ok: true } | { readonly ok: false; readonly status: 401 | 503; readonly error: string }

const keySet = z.looseObject({
  keys: z
    .array(
      z.looseObject({
        kty: z.literal('OKP'),
        crv: z.literal('Ed25519'),
        x: z.string(),
        kid: z.string(),
        use: z.literal('sig').optional(),
        alg: z.literal('EdDSA').optional(),
      }),
    )
    .min(1),
})

const toleranceSeconds = 300
const defaultMaxAgeSeconds = 300
const answerWithinMs = 10_000

interface CachedKeys {
  readonly keys: ReadonlyMap<string, KeyObject>
  readonly expiresAt: number
}

/** Keys are kept for as long as the server allows; an unknown key is no reason to look again. */
export class SignatureVerifier {
  readonly #cache = new Map<string, CachedKeys>()
  /** How often keys were fetched. */
  fetches = 0

  async verify(header: string | undefined, body: Buffer, jwksUrl: string): Promise<SignatureVerdict> {
    if (header === undefined || header === '') return refused('Missing webhook signature')
    const parts = partsOf(header)
    if (parts === undefined) return refused('Invalid webhook signature')
    if (Math.abs(Date.now() / 1000 - parts.at) > toleranceSeconds) return refused('Webhook signature expired')
    const found = await this.#keys(jwksUrl)
    if (typeof found === 'string') return { ok: false, status: 503, error: found }
    const key = found.get(parts.kid)
    if (key === undefined) return refused('Unknown webhook signing key')
    const signed = Buffer.concat([Buffer.from(`${parts.t}.`, 'ascii'), body])
    return verify(null, signed, key, parts.signature) ? { ok: true } : refused('Invalid webhook signature')
  }

  async #keys(url: string): Promise<ReadonlyMap<string, KeyObject> | string> {
    const cached = this.#cache.get(url)
    if (cached !== undefined && cached.expiresAt > performance.now()) return cached.keys
    this.fetches += 1
    const response = await fetch(url, {
      headers: { accept: 'application/jwk-set+json, application/json' },
      signal: AbortSignal.timeout(answerWithinMs),
    }).catch(() => undefined)
    if (response?.ok !== true) return `JWKS fetch failed: ${response?.status ?? 'no answer'}`
    const keys = keysOf(await response.text())
    if (keys === undefined) return 'JWKS response did not contain Ed25519 keys'
    this.#cache.set(url, { keys, expiresAt: performance.now() + maxAgeOf(response.headers) * 1000 })
    return keys
  }
}

const refused = (error: string): SignatureVerdict => ({ ok: false, status: 401, error })

/** `t`, `kid` and `ed25519` in any order. */
function partsOf(
  header: string,
): { readonly t: string; readonly at: number; readonly kid: string; readonly signature: Buffer } | undefined {
  const parts = new Map(
    header.split(',').map((part): [string, string] => {
      const at = part.indexOf('=')
      return [part.slice(0, at).trim(), part.slice(at + 1).trim()]
    }),
  )
  const [t, kid, signature] = [parts.get('t'), parts.get('kid'), parts.get('ed25519')]
  if (t === undefined || !/^\d+$/.test(t) || !kid || signature === undefined || !/^[A-Za-z0-9_-]+$/.test(signature)) return undefined
  return { t, at: Number(t), kid, signature: Buffer.from(signature, 'base64url') }
}

/** One key that is none makes the whole set unusable. */
function keysOf(text: string): ReadonlyMap<string, KeyObject> | undefined {
  try {
    const { keys } = keySet.parse(JSON.parse(text))
    return new Map(keys.map(({ kty, crv, x, kid }) => [kid, createPublicKey({ key: { kty, crv, x }, format: 'jwk' })]))
  } catch {
    return undefined
  }
}

function maxAgeOf(headers: Headers): number {
  const maxAge = /(?:^|[\s,])max-age=(\d+)/.exec(headers.get('cache-control') ?? '')?.[1]
  return maxAge === undefined ? defaultMaxAgeSeconds : Number(maxAge)
}
