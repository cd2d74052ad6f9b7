/** Which dispatch policy a new entity gets (spec/02 §7.1). */
import type { DispatchPolicy, DispatchTarget } from './entity.js'

const destinationOf = (target: DispatchTarget): string => (target.type === 'runner' ? `runner ${target.runnerId}` : `webhook ${target.url}`)

/** The stored policy: the request's, else the parent's, else the type's default, else none. */
export function chooseDispatchPolicy(given: {
  readonly requested?: DispatchPolicy
  readonly parent: DispatchPolicy | null
  readonly typeDefault: DispatchPolicy | null
}): DispatchPolicy | null {
  if (given.requested !== undefined) return given.requested
  if (given.parent === null) return given.typeDefault
  return withSubscriptionOf(given.parent, given.typeDefault)
}

/** A parent's destination that equals the type's default one takes over that one's subscription. */
function withSubscriptionOf(policy: DispatchPolicy, typeDefault: DispatchPolicy | null): DispatchPolicy {
  const [target] = policy.targets
  const subscription_id = typeDefault?.targets[0].subscription_id
  if (typeDefault === null || subscription_id === undefined) return policy
  return destinationOf(target) === destinationOf(typeDefault.targets[0]) ? { targets: [{ ...target, subscription_id }] } : policy
}

/** Whether the runner may claim the subscriptions of this target (spec/07 §3.7 row 3): its own, and those below. */
export function isClaimable({ runnerId, subscription_id }: Extract<DispatchTarget, { type: 'runner' }>): boolean {
  const own = `runner:${runnerId}`
  return subscription_id === undefined || subscription_id === own || subscription_id.startsWith(`${own}:`)
}

/** Whether `url` can be a webhook's: absolute, http or https. */
export function isWebhookUrl(url: string): boolean {
  return URL.canParse(url) && /^https?:$/.test(new URL(url).protocol)
}
