/** Which execution environment a new entity gets (spec/02 §8). Pure: what runners advertise is handed in. */
import type { DispatchPolicy, SandboxSelection } from './entity.js'
import { type AgentsError, errors } from './errors.js'

/** As sent; members that are unknown are ignored. */
export type SandboxRequest = {
  readonly profile?: string
  readonly key?: string
  readonly scope?: 'entity' | 'wake'
  readonly persistent?: boolean
  readonly owner?: boolean
  readonly inherit?: boolean
}

/** What a runner says that it can provide. */
export interface SandboxProfile {
  readonly name: string
  /** Not bound to the runner's host, so that entities on several hosts can share it. */
  readonly remote?: boolean
}

/** The profiles of one runner, or of all runners of the tenant (null), online or not. */
export type AdvertisedProfiles = (runnerId: string | null) => Promise<readonly SandboxProfile[]>

type Choice = Omit<SandboxRequest, 'inherit'>

/** What the request asks for once inheritance is resolved (rows 1 and 2); null: no sandbox is stored. */
export function chosenSandbox(request: SandboxRequest | undefined, inherited: SandboxSelection | null): Choice | null {
  if (request === undefined) return null
  if (request.inherit !== true) return request
  if (!inherited?.key) return null // spec/02 §8 row 2, MUST: the spawn continues without one
  const { profile, key, persistent } = inherited
  return { profile, key, ...(persistent === undefined ? {} : { persistent }), owner: false }
}

/** Rows 3 to 5, and the form that is stored. */
export async function resolveSandbox(
  choice: Choice,
  policy: DispatchPolicy | null,
  advertised: AdvertisedProfiles,
): Promise<SandboxSelection | AgentsError> {
  if (!choice.profile) return errors.SANDBOX_NEEDS_PROFILE()
  const target = policy?.targets[0]
  const runner = target?.type === 'runner' ? target.runnerId : null
  const profiles = await advertised(runner)
  const offers = profiles.filter(({ name }) => name === choice.profile)
  if (offers.length === 0) return notOffered(choice.profile, runner, profiles)
  // A host of its own cannot be shared across hosts. Of two profiles with one name, one of which is local, the local one may be chosen.
  if (choice.key && runner === null && !offers.every(({ remote }) => remote === true)) return errors.SANDBOX_NEEDS_RUNNER()
  return stored({ ...choice, profile: choice.profile })
}

function notOffered(profile: string, runner: string | null, profiles: readonly SandboxProfile[]): AgentsError {
  const names = [...new Set(profiles.map(({ name }) => name))].join(', ') || '(none)'
  return runner === null ? errors.SANDBOX_NOT_OFFERED(profile, names) : errors.SANDBOX_NOT_ADVERTISED(profile, runner, names)
}

/** spec/01 §5.5: a key outranks a scope, `owner` is kept only when false. */
function stored({ profile, key, scope, persistent, owner }: Choice & { readonly profile: string }): SandboxSelection {
  return {
    profile,
    ...(key ? { key } : scope === undefined ? {} : { scope }),
    ...(persistent === undefined ? {} : { persistent }),
    ...(owner === false ? { owner } : {}),
  }
}
