/** What a stream path is to the house: whose rules hold for it (spec/03 §8–9, spec/12 §6.1). Pure. */
import { type EntityUrl, entityOfMainStream, parseEntityUrl } from '../domain/ids.js'
import { sharedStateOf } from '../domain/shared-state.js'

export type PathCategory =
  /** The main stream of the entity at `url`, whether or not it exists. */
  | { readonly is: 'main'; readonly url: EntityUrl }
  | { readonly is: 'attachment'; readonly url: EntityUrl }
  /** Written by the server alone: ticks, memberships, incoming webhooks. */
  | { readonly is: 'server-owned' }
  /** Where the wakes of the runner `id` are announced, unless it has another path. */
  | { readonly is: 'wakes'; readonly runnerId: string }
  | { readonly is: 'shared-state'; readonly id: string }
  /** Names nothing that could be stored. */
  | { readonly is: 'malformed'; readonly reason: string }
  | { readonly is: 'later'; readonly feature: string }
  /** Below `/_electric/`, the UI or the subscription API: no stream lives there. */
  | { readonly is: 'reserved' }
  | { readonly is: 'plain' }

const attachmentOf = /^(\/[^/]+\/[^/]+)\/attachments\/./
const serverOwned = /^\/(_cron|_entities|_webhooks)(\/|$)/
const wakesOf = /^\/runners\/([^/]+)\/wake$/
const later: readonly (readonly [RegExp, string])[] = [[/^\/_electric\/pg-sync(\/|$)/, 'Postgres observation']]
const reserved = /^\/(_electric|__agent_ui|__ds|v1\/stream\/__ds)(\/|$)/

export function categoryOf(path: string): PathCategory {
  const feature = later.find(([pattern]) => pattern.test(path))?.[1]
  if (feature !== undefined) return { is: 'later', feature }
  const shared = sharedStateOf(path)
  if (shared !== null) return 'id' in shared ? { is: 'shared-state', id: shared.id } : { is: 'malformed', reason: shared.refused }
  if (reserved.test(path)) return { is: 'reserved' }
  if (serverOwned.test(path)) return { is: 'server-owned' }
  const runner = wakesOf.exec(path)?.[1]
  if (runner !== undefined) return { is: 'wakes', runnerId: decodedOrKept(runner) }
  const main = entityOfMainStream(path)
  if (main !== null) return { is: 'main', url: main }
  const owner = parseEntityUrl(attachmentOf.exec(path)?.[1] ?? '')
  return owner === null ? { is: 'plain' } : { is: 'attachment', url: owner }
}

const maxDecodings = 8

/** What `path` could be taken for by somebody more lenient than we are: escapes resolved however often they were applied, slashes and dots too. */
export function normalised(path: string): string {
  let text = path
  for (let round = 0; round < maxDecodings; round += 1) {
    const decoded = text.replace(/(?:%[0-9a-f]{2})+/gi, decodedOrKept)
    if (decoded === text) break
    text = decoded
  }
  const segments = text.replaceAll('\\', '/').split('/')
  return `/${segments
    .filter((segment) => segment !== '' && segment !== '.')
    .reduce<string[]>(resolved, [])
    .join('/')}`
}

const resolved = (before: string[], segment: string): string[] => (segment === '..' ? before.slice(0, -1) : [...before, segment])

function decodedOrKept(escapes: string): string {
  try {
    return decodeURIComponent(escapes)
  } catch {
    return escapes
  }
}

/** Whether `path` is not itself what its normalised form is: an attempt to pass by the rules of the latter. */
export function isDisguised(path: string): boolean {
  const plainForm = normalised(path)
  return plainForm !== path && categoryOf(plainForm).is !== 'plain'
}
