/**
 * Who may do what on a stream through the public protocol: spec/03 §8–9, spec/12 §6.1. Plain streams are everybody's; all others have an owner, also those that a runner
 * has chosen for its wakes.
 *
 * A1  Nobody but the server creates, replaces, deletes or forks an entity's history: no method reaches the store that could.
 * A2  A path that only looks different from a guarded one is refused, never served.
 */
import { errors } from '../domain/errors.js'
import type { StreamPath } from '../domain/ids.js'
import type { Runner } from '../domain/runners.js'
import type { Attachments } from './attachments.js'
import { authorize, authorizeRunner, type JudgedPrincipal } from './authorize.js'
import type { Directory } from './directory.js'
import type { SharedStateAccess } from './shared-state-access.js'
import { categoryOf, isDisguised, normalised } from './stream-paths.js'

export interface StreamAccessRequest {
  readonly principal: JudgedPrincipal
  readonly method: string
  readonly path: StreamPath
  /** `Stream-Forked-From`, as sent; it says something of a PUT only. */
  readonly forkedFrom?: string
  /** `electric-owner-entity`, as sent. */
  readonly owner?: string
}

export type ShownAttachments = Pick<Attachments, 'isShown'>

export class StreamAccess {
  readonly #directory: Directory
  readonly #sharedState: SharedStateAccess
  readonly #attachments: ShownAttachments

  constructor(directory: Directory, sharedState: SharedStateAccess, attachments: ShownAttachments) {
    this.#directory = directory
    this.#sharedState = sharedState
    this.#attachments = attachments
  }

  /** Passes, or throws the refusal. Every stream request asks here before its body is read. */
  async check({ principal, method, path, forkedFrom, owner }: StreamAccessRequest): Promise<void> {
    if (method === 'PUT' && forkedFrom !== undefined) await this.#checkPath(principal, 'GET', sourcePath(forkedFrom)) // first: the other leaves links
    await this.#checkPath(principal, method === 'HEAD' ? 'GET' : method, path, owner)
  }

  async #checkPath(principal: JudgedPrincipal, method: string, path: string, owner?: string): Promise<void> {
    const category = categoryOf(path)
    switch (category.is) {
      case 'main':
        return await this.#checkMain(principal, method, path, category.url)
      case 'attachment':
        return await this.#checkAttachment(principal, method, path, category.url)
      case 'server-owned':
        if (method !== 'GET') throw errors.NOT_ALLOWED('write', path)
        return
      case 'wakes':
        return checkWakes(principal, method, path, await this.#directory.runner(category.runnerId))
      case 'shared-state':
        return await this.#sharedState.check({ principal, method, id: category.id, ...(owner === undefined ? {} : { owner }) })
      case 'malformed':
        throw errors.INVALID_REQUEST(category.reason)
      case 'later':
        throw errors.NOT_IMPLEMENTED(category.feature)
      case 'reserved':
        throw errors.STREAM_PATH_RESERVED()
      case 'plain':
        return await this.#checkPlain(principal, method, path)
      default:
        return category satisfies never
    }
  }

  async #checkPlain(principal: JudgedPrincipal, method: string, path: string): Promise<void> {
    refuseDisguise(path)
    const plainForm = normalised(path)
    if (plainForm !== path && (await this.#directory.wakeStream(plainForm)) !== null) throw disguised()
    const runner = await this.#directory.wakeStream(path)
    if (runner !== null) checkWakes(principal, method, path, runner)
  }

  async #checkMain(principal: JudgedPrincipal, method: string, path: string, url: string): Promise<void> {
    // The write token alone authorises an append, and is judged with it (`stream-writing.ts`).
    if (method === 'POST' && !isDisguised(path)) return
    const entity = await this.#directory.entity(url)
    if (entity === null) refuseDisguise(path)
    if (method === 'POST') return
    if (method === 'GET') return entity === null ? undefined : await authorize(principal, 'read', entity) // no row: the stream layer says 404
    // PUT on an existing entity's stream is a question (200 or 409); `StreamWriting.create` keeps it from being more.
    if (method !== 'PUT' || entity === null) throw errors.NOT_ALLOWED('write', path) // A1
  }

  async #checkAttachment(principal: JudgedPrincipal, method: string, path: string, url: string): Promise<void> {
    if (method !== 'GET') throw errors.INVALID_WRITE_TOKEN()
    const entity = await this.#directory.entity(url)
    if (entity === null) refuseDisguise(path)
    if (entity === null) throw errors.ENTITY_GONE()
    await authorize(principal, 'read', entity)
    if (!(await this.#attachments.isShown(entity.url, path))) throw errors.ATTACHMENT_NOT_FOUND() // being stored, or removed
  }
}

/** spec/07 §4: read by the runner's owner, written by the server. Where no runner is, there is no stream: the stream layer says so. */
function checkWakes(principal: JudgedPrincipal, method: string, path: string, runner: Runner | null): void {
  if (method !== 'GET') throw errors.NOT_ALLOWED('write', path)
  if (runner !== null) authorizeRunner(principal, runner)
}

/** A2. */
function refuseDisguise(path: string): void {
  if (isDisguised(path)) throw disguised()
}

const disguised = () => errors.INVALID_REQUEST('Stream paths must be sent in their plain form')

/** The path of a fork's source: a path, or a URL of ours. */
function sourcePath(forkedFrom: string): string {
  if (forkedFrom.startsWith('/') && !forkedFrom.startsWith('//')) return forkedFrom.split(/[?#]/, 1)[0] ?? forkedFrom
  return URL.canParse(forkedFrom) ? new URL(forkedFrom).pathname : `/${forkedFrom}`
}
