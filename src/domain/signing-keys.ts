/** Keys that sign webhooks, and whose turn it is (spec/06 §5). */
import { createHash, createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto'
import { z } from 'zod'

/** How an Ed25519 key pair is kept: the members `x` and `d` of its JWK. */
export interface SigningKey {
  readonly kid: string
  readonly x: string
  readonly d: string
}

/** As published. */
export interface PublicSigningKey {
  readonly kty: 'OKP'
  readonly crv: 'Ed25519'
  readonly x: string
  readonly kid: string
  readonly use: 'sig'
  readonly alg: 'EdDSA'
}

/** A key's time to sign: it lasts until the next turn begins. A key that is taken back has several. */
export interface SigningTurn {
  readonly key: SigningKey
  /** An operator brought the key, and an operator ends its turn; keys of our own end by age. */
  readonly isConfigured: boolean
  readonly keyAgeMs: number
  readonly signsFromMs: number
}

/** Of `turns`, in their order, the one that signs at `nowMs`: the first one also while the clock was set back before it. Undefined: there is none. */
export const turnAt = (turns: readonly SigningTurn[], nowMs: number): SigningTurn | undefined =>
  turns.findLast(({ signsFromMs }) => signsFromMs <= nowMs) ?? turns[0]

/** Whether age ends the last of `turns`. One that has not begun never: else keys that live shorter than their overlap would pile up. */
export function isOutlived(turns: readonly SigningTurn[], nowMs: number, lifeMs: number): boolean {
  const last = turns.at(-1)
  return last !== undefined && !last.isConfigured && last.signsFromMs <= nowMs && last.keyAgeMs >= lifeMs
}

/** Each key once, whoever signs with it. */
export function publishedKeys(turns: readonly SigningTurn[]): readonly PublicSigningKey[] {
  const keys = new Map(turns.map(({ key }) => [key.kid, key]))
  return [...keys.values()].map(({ kid, x }) => ({ kty: 'OKP', crv: 'Ed25519', x, kid, use: 'sig', alg: 'EdDSA' }))
}

const jwk = z.object({ kty: z.literal('OKP'), crv: z.literal('Ed25519'), x: z.string(), d: z.string() })

/** The key that `text` holds: PKCS#8 PEM, whose line breaks may be written as `\n`, or a JWK. Null where it is no Ed25519 private key. */
export function parseSigningKey(text: string): SigningKey | null {
  try {
    return text.trim().startsWith('{')
      ? fromJwk(text)
      : signingKeyOf(createPrivateKey(text.trim().replaceAll('\\r', '').replaceAll('\\n', '\n')))
  } catch {
    return null
  }
}

/** Node ignores the `x` of a private JWK; one that belongs to another key is a mistake that its owner should hear of. */
function fromJwk(text: string): SigningKey | null {
  const given = jwk.parse(JSON.parse(text))
  const key = signingKeyOf(createPrivateKey({ key: given, format: 'jwk' }))
  return key?.x === given.x ? key : null
}

/** As it is kept; null where it is no Ed25519 private key. */
export function signingKeyOf(key: KeyObject): SigningKey | null {
  if (key.asymmetricKeyType !== 'ed25519') return null
  const { x } = createPublicKey(key).export({ format: 'jwk' })
  const { d } = key.export({ format: 'jwk' })
  return x === undefined || d === undefined ? null : { kid: kidOf(x), x, d }
}

/** The thumbprint of RFC 7638: the same key has the same id wherever it is used. */
const kidOf = (x: string): string =>
  `ds_${createHash('sha256')
    .update(JSON.stringify({ crv: 'Ed25519', kty: 'OKP', x }))
    .digest('base64url')}`

export const privateKeyOf = ({ x, d }: SigningKey): KeyObject =>
  createPrivateKey({ key: { kty: 'OKP', crv: 'Ed25519', x, d }, format: 'jwk' })
