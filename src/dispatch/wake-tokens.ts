/**
 * Tokens of a wake (spec/06 §3.3, §8). Derived from one secret of the tenant, so that any replica can check and repeat them, and none is stored.
 *
 * The claim token names its wake and vouches for it; the write token is a UUID of which the registry keeps a hash while it may write.
 * Both are bound to one wake: when that is over they are worth nothing, whoever has kept them.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto'

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
    const name = Buffer.from(`${wake.wakeId}:${wake.generation}`).toString('base64url')
    return `${name}.${this.#mac('claim', wake).toString('base64url')}`
  }

  /** The wake of `subscriptionId` that `token` was made for; null where it was not made here. */
  readClaimToken(subscriptionId: string, token: string): WakeIdentity | null {
    const [name = '', mac = '', ...more] = token.split('.')
    const [, wakeId = '', generation = ''] = /^(w_[0-9a-f]{24}):(\d{1,15})$/.exec(Buffer.from(name, 'base64url').toString('latin1')) ?? []
    if (wakeId === '' || more.length > 0) return null
    const wake = { subscriptionId, wakeId, generation: Number(generation) }
    return isSame(Buffer.from(mac, 'base64url'), this.#mac('claim', wake)) ? wake : null
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

export const hashOfToken = (token: string): Buffer => createHash('sha256').update(token).digest()

/** In constant time. */
export const isSame = (presented: Buffer, expected: Buffer): boolean =>
  presented.length === expected.length && timingSafeEqual(presented, expected)
