/**
 * Tokens of a wake (spec/06 §3.3, §8). Derived from one secret of the tenant, so that any replica can check and repeat them, and none is stored.
 *
 * The claim token names its wake and vouches for it; the write token is a UUID of which the registry keeps a hash while it may write.
 * Both are bound to one wake: when that is over they are worth nothing, whoever has kept them.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import { z } from 'zod'

export interface WakeIdentity {
  readonly subscriptionId: string
  readonly wakeId: string
  readonly generation: number
}

export class WakeTokens {
  readonly #secret: Buffer

  constructor(secret: Buffer) {
    this.#secret = secret
  }

  claimToken(wake: WakeIdentity): string {
    const name = Buffer.from(JSON.stringify([wake.wakeId, wake.generation, wake.subscriptionId])).toString('base64url')
    return `${name}.${this.#mac('claim', wake).toString('base64url')}`
  }

  /** The wake that `token` was made for; null where it was not made here. */
  wakeOf(token: string): WakeIdentity | null {
    const [name = '', mac = '', ...more] = token.split('.')
    const wake = more.length > 0 ? null : identityIn(Buffer.from(name, 'base64url').toString('utf8'))
    return wake !== null && isSame(Buffer.from(mac, 'base64url'), this.#mac('claim', wake)) ? wake : null
  }

  /** The same, of wakes of one subscription. */
  readClaimToken(subscriptionId: string, token: string): WakeIdentity | null {
    const wake = this.wakeOf(token)
    return wake?.subscriptionId === subscriptionId ? wake : null
  }

  /** The same for every claim of one wake. */
  writeToken(wake: WakeIdentity): string {
    const hex = this.#mac('write', wake).toString('hex')
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-a${hex.slice(17, 20)}-${hex.slice(20, 32)}`
  }

  #mac(purpose: string, { subscriptionId, wakeId, generation }: WakeIdentity): Buffer {
    return createHmac('sha256', this.#secret)
      .update(JSON.stringify([purpose, subscriptionId, wakeId, generation]))
      .digest()
  }
}

const identity = z.tuple([z.string(), z.int(), z.string()])

function identityIn(text: string): WakeIdentity | null {
  try {
    const [wakeId, generation, subscriptionId] = identity.parse(JSON.parse(text))
    return { wakeId, generation, subscriptionId }
  } catch {
    return null
  }
}

export const hashOfToken = (token: string): Buffer => createHash('sha256').update(token).digest()

/** In constant time. */
export const isSame = (presented: Buffer, expected: Buffer): boolean =>
  presented.length === expected.length && timingSafeEqual(presented, expected)
