/** Editing and deleting messages of an inbox (spec/03 §4). Whether the message exists is nobody's question: readers merge by key. */
import { randomUUID } from 'node:crypto'
import type { Pipeline } from '../dispatch/pipeline.js'
import { acceptsWrites, type Entity } from '../domain/entity.js'
import { errors } from '../domain/errors.js'
import { entryOf, type InboxEdit, inboxDeleted, inboxEdited, type StateEvent } from '../domain/events.js'
import { mainStream } from '../domain/ids.js'
import { refuseUnlessAppended } from './sending.js'

/** The id to wait for on the stream. */
export interface InboxEdited {
  readonly txid: string
}

type Addressed = Pick<Entity, 'url' | 'status'>

const fields = ['payload', 'position', 'mode', 'status'] as const

export class InboxEditing {
  readonly #pipeline: Pipeline

  constructor(pipeline: Pipeline) {
    this.#pipeline = pipeline
  }

  async edit(entity: Addressed, key: string, edit: InboxEdit): Promise<InboxEdited> {
    if (!acceptsWrites(entity.status)) throw errors.NOT_RUNNING()
    if (!fields.some((field) => Object.hasOwn(edit, field))) throw errors.NO_INBOX_FIELDS()
    return await this.#append(entity, (txid) => inboxEdited(key, edit, Date.now(), txid))
  }

  async delete(entity: Addressed, key: string): Promise<InboxEdited> {
    if (!acceptsWrites(entity.status)) throw errors.NOT_RUNNING()
    return await this.#append(entity, (txid) => inboxDeleted(key, txid))
  }

  async #append({ url }: Addressed, eventOf: (txid: string) => StateEvent): Promise<InboxEdited> {
    const txid = randomUUID()
    const events = [eventOf(txid)]
    const verdict = await this.#pipeline.append({
      path: mainStream(url),
      contentType: 'application/json',
      body: entryOf(events),
      events,
      message: { to: url, resumes: false }, // an edit ends no pause
    })
    refuseUnlessAppended(verdict)
    return { txid }
  }
}
