import type { DispatchPolicy, SandboxSelection } from '../../src/domain/entity.js'
import { AgentsError } from '../../src/domain/errors.js'
import {
  type AdvertisedProfiles,
  chosenSandbox,
  resolveSandbox,
  type SandboxProfile,
  type SandboxRequest,
} from '../../src/domain/sandbox.js'

const runners: Readonly<Record<string, readonly SandboxProfile[]>> = {
  near: [{ name: 'docker' }, { name: 'mixed', remote: true }],
  far: [{ name: 'e2b', remote: true }, { name: 'mixed' }, { name: 'docker' }],
  bare: [],
}
const advertised: AdvertisedProfiles = async (runnerId) => (runnerId === null ? Object.values(runners).flat() : (runners[runnerId] ?? []))
const pinnedTo = (runnerId: string): DispatchPolicy => ({ targets: [{ type: 'runner', runnerId }] })
const webhook: DispatchPolicy = { targets: [{ type: 'webhook', url: 'http://runtime.test/' }] }

interface Spawn {
  readonly request: SandboxRequest | undefined
  readonly parent?: SandboxSelection
  readonly policy?: DispatchPolicy
  readonly among?: AdvertisedProfiles
}

/** What a spawn stores, or the text that refuses it. */
async function selected({
  request,
  parent,
  policy = pinnedTo('near'),
  among = advertised,
}: Spawn): Promise<SandboxSelection | string | null> {
  const choice = chosenSandbox(request, parent ?? null)
  const outcome = choice === null ? null : await resolveSandbox(choice, policy, among)
  if (!(outcome instanceof AgentsError)) return outcome
  expect(outcome.refusal).toMatchObject({ status: 400, code: 'INVALID_REQUEST' })
  return outcome.message
}

const needsProfile = 'sandbox requires a "profile" (or "inherit": true with a parent that has a shared sandbox).'
const needsRunner =
  'a shared sandbox (sandbox.key / sandbox.inherit) requires the entity to be pinned to a single runner via dispatch_policy, so all collaborators share one host.'
const sharedByParent = { profile: 'docker', key: 'k' } as const

describe('the sandbox of a new entity', () => {
  it.each<[SandboxRequest, SandboxSelection]>([
    [{ profile: 'docker' }, { profile: 'docker' }],
    [
      { profile: 'docker', scope: 'wake', persistent: false },
      { profile: 'docker', scope: 'wake', persistent: false },
    ],
    [
      { profile: 'docker', key: 'k', scope: 'wake', persistent: false, owner: false },
      { profile: 'docker', key: 'k', persistent: false, owner: false },
    ],
    [{ profile: 'docker', owner: true }, { profile: 'docker' }],
    [
      { profile: 'docker', key: '', scope: 'entity' },
      { profile: 'docker', scope: 'entity' },
    ],
  ])('asked for as %j is stored as %j', async (request, stored) => {
    expect(await selected({ request })).toEqual(stored)
  })

  it('is none where none is asked for, whatever the parent has', async () => {
    expect(await selected({ request: undefined, parent: sharedByParent })).toBeNull()
  })
})

describe('an inherited sandbox', () => {
  it('is the shared one of the parent, which stays its owner; all else in the request is ignored', async () => {
    const request = { inherit: true, profile: 'e2b', key: 'other', scope: 'wake', persistent: true, owner: true } as const

    expect(await selected({ request, parent: sharedByParent })).toEqual({ profile: 'docker', key: 'k', owner: false })
    expect(await selected({ request, parent: { ...sharedByParent, persistent: false } })).toEqual({
      profile: 'docker',
      key: 'k',
      persistent: false,
      owner: false,
    })
  })

  it('is none without a parent, and where the parent has none that is shared: the spawn continues', async () => {
    expect(await selected({ request: { inherit: true } })).toBeNull()
    expect(await selected({ request: { inherit: true, profile: 'docker' }, parent: { profile: 'docker' } })).toBeNull()
  })

  it('is not what `inherit: false` asks for', async () => {
    expect(await selected({ request: { inherit: false, profile: 'docker' }, parent: sharedByParent })).toEqual({ profile: 'docker' })
  })

  it('is refused like one that the request names, where the entity is pinned to no runner', async () => {
    expect(await selected({ request: { inherit: true }, parent: sharedByParent, policy: webhook })).toBe(needsRunner)
  })
})

describe('a sandbox is refused', () => {
  it.each<SandboxRequest>([{}, { profile: '' }, { key: 'k' }, { inherit: false }])('without a profile: %j', async (request) => {
    expect(await selected({ request })).toBe(needsProfile)
  })

  it.each([
    ['near', 'e2b', 'sandbox profile "e2b" is not advertised by runner "near" (advertised: docker, mixed).'],
    ['bare', 'docker', 'sandbox profile "docker" is not advertised by runner "bare" (advertised: (none)).'],
  ])('where the runner %s does not advertise %s', async (runner, profile, message) => {
    expect(await selected({ request: { profile, key: 'k' }, policy: pinnedTo(runner) })).toBe(message)
  })

  it('where no runner at all offers the profile; each name is listed once', async () => {
    const request = { profile: 'vm' }

    expect(await selected({ request, policy: webhook })).toBe(
      'sandbox profile "vm" is not offered by any registered runner (available: docker, mixed, e2b).',
    )
    expect(await selected({ request, policy: webhook, among: async () => [] })).toBe(
      'sandbox profile "vm" is not offered by any registered runner (available: (none)).',
    )
  })

  it('where it is shared, bound to a host, and the entity to none', async () => {
    expect(await selected({ request: { profile: 'docker', key: 'k' }, policy: webhook })).toBe(needsRunner)
    expect(await selected({ request: { profile: 'mixed', key: 'k' }, policy: webhook })).toBe(needsRunner)
  })
})

describe('a shared sandbox', () => {
  it('needs no runner where every advertisement of its profile is remote', async () => {
    expect(await selected({ request: { profile: 'e2b', key: 'k' }, policy: webhook })).toEqual({ profile: 'e2b', key: 'k' })
  })

  it.each(['docker', 'mixed'])('of profile %s is taken where the entity is pinned to a runner', async (profile) => {
    expect(await selected({ request: { profile, key: 'k' } })).toEqual({ profile, key: 'k' })
  })

  it('needs a runner no longer once it has no key', async () => {
    expect(await selected({ request: { profile: 'docker', scope: 'wake' }, policy: webhook })).toEqual({ profile: 'docker', scope: 'wake' })
  })
})
