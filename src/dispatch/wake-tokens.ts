/**
 * Tokens of a wake (spec/06 §3.3, §8). Derived from one secret of the tenant, so that any replica can check and repeat them, and none is stored.
 *
 * The claim token names its wake, and the delivery that brought it, and vouches for them; the write token is a UUID of which the registry keeps a hash while it may write.
 * Both are bound to one wake: when that is over they are worth nothing, whoever has kept them.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import { z } from 'zod'

export interface WakeIdentity {
  readonly subscriptionId: string
  readonly wakeId: string
  readonly generation: number
}

/** One delivery of a wake: where two were made, one of them is claimed. */
export interface DeliveryIdentity extends WakeIdentity {
  readonly attempt: number
}

export class WakeTokens {
  readonly #secret: Buffer

  constructor(secret: Buffer) {
    this.#secret = secret
  }

  claimToken(delivery: DeliveryIdentity): string {
    const { wakeId, generation, attempt, subscriptionId } = delivery
    const name = Buffer.from(JSON.stringify([wakeId, generation, attempt, subscriptionId])).toString('base64url')
    return `${name}.${this.#mac(`claim ${attempt}`, delivery).toString('base64url')}`
  }

  /** The delivery that `token` was made for; null where it was not made here. */
  deliveryOf(token: string): DeliveryIdentity | null {
    const [name = '', mac = '', ...more] = token.split('.')
    const delivery = more.length > 0 ? null : identityIn(Buffer.from(name, 'base64url').toString('utf8'))
    if (delivery === null) return null
    return isSame(Buffer.from(mac, 'base64url'), this.#mac(`claim ${delivery.attempt}`, delivery)) ? delivery : null
  }

  /** The same, of wakes of one subscription. */
  readClaimToken(subscriptionId: string, token: string): DeliveryIdentity | null {
    const delivery = this.deliveryOf(token)
    return delivery?.subscriptionId === subscriptionId ? delivery : null
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

const identity = z.tuple([z.string(), z.int(), z.int(), z.string()])

function identityIn(text: string): DeliveryIdentity | null {
  try {
    const [wakeId, generation, attempt, subscriptionId] = identity.parse(JSON.parse(text))
    return { wakeId, generation, attempt, subscriptionId }
  } catch {
    return null
  }
}

export const hashOfToken = (token: string): Buffer => createHash('sha256').update(token).digest()

/** In constant time. */
export const isSame = (presented: Buffer, expected: Buffer): boolean =>
  presented.length === expected.length && timingSafeEqual(presented, expected)
