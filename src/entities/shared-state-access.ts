/**
 * Who may read and write a shared state: whoever may do so with an entity that is linked to it (spec/03 §9.2, spec/12 §9).
 *
 * L1  The first writer names an owner in a header; from the moment when a link exists the header widens nothing.
 * L2  A link is stored before the request goes on, so that a read right after works; and only where the caller may write the named owner.
 * L3  Of several who bootstrap one id at once, one does; the others meet its link.
 *
 * A crash leaves the link without the stream: its owner's next PUT makes it.
 */
import { errors } from '../domain/errors.js'
import { parseEntityUrl } from '../domain/ids.js'
import { sharedStateKey } from '../domain/shared-state.js'
import type { Database } from '../registry/database.js'
import { changeLinks, linksOf, lockSharedState, type SharedStateLink } from '../registry/shared-state.js'
import { authorize, isAllowed, type JudgedPrincipal, type OwnedEntity, type SharedState } from './authorize.js'
import type { Directory } from './directory.js'

export interface SharedStateRequest {
  readonly principal: JudgedPrincipal
  readonly method: string
  readonly id: string
  /** `electric-owner-entity`, as sent. */
  readonly owner?: string
}

export class SharedStateAccess {
  readonly #database: Database
  readonly #directory: Directory

  constructor(database: Database, directory: Directory) {
    this.#database = database
    this.#directory = directory
  }

  /** Passes, or throws the refusal; a bootstrap leaves its link. */
  async check({ principal, method, id, owner }: SharedStateRequest): Promise<void> {
    if (method === 'GET') return await authorize(principal, 'read', shared(id, await linksOf(this.#database, id)))
    if (method !== 'PUT' && method !== 'POST') throw errors.NOT_ALLOWED('access', 'shared state') // for everybody
    const named = owner === undefined ? null : await this.#named(owner)
    while (!(await this.#checkWrite(principal, id, named))); // again: somebody else's link came first (L3)
  }

  async #named(owner: string): Promise<OwnedEntity | null> {
    const url = parseEntityUrl(owner.trim())
    return url === null ? null : await this.#directory.entity(url)
  }

  /** False when what was decided on has changed meanwhile: then nothing was stored. */
  async #checkWrite(principal: JudgedPrincipal, id: string, named: OwnedEntity | null): Promise<boolean> {
    const links = await linksOf(this.#database, id)
    const bootstraps = links.length === 0 && named !== null // L1
    await authorize(principal, 'write', bootstraps ? { sharedStateId: id, linked: [named] } : shared(id, links))
    if (named === null || isLinked(links, id, named) || !(await isAllowed(principal, 'write', named))) return true // L2
    return await this.#database.transaction(async (tx) => {
      await lockSharedState(tx, id)
      if (bootstraps && (await linksOf(tx, id)).length > 0) return false
      await changeLinks(tx, [{ owner_url: named.url, manifest_key: sharedStateKey(id), id }])
      return true
    })
  }
}

const shared = (id: string, links: readonly SharedStateLink[]): SharedState => ({
  sharedStateId: id,
  linked: links.filter(({ exists }) => exists),
})

const isLinked = (links: readonly SharedStateLink[], id: string, owner: OwnedEntity): boolean =>
  links.some((link) => link.url === owner.url && link.manifest_key === sharedStateKey(id))
