/**
 * Load of edits on a house (tags, rows, messages, schemas, attachments), and the ledger of it.
 *
 * E1  A caller has one request under way at a time and ends with the first that was not acknowledged: no other of its can be in doubt.
 * E2  Keys begin with their caller's name, so its traces stand apart in what it shares: an entity with another caller, one type with all.
 */
import { createHash, randomBytes } from 'node:crypto'
import { type Entry, json, type LoadOptions, outcomeOf } from './ledger.js'

export type EditKind = 'tag' | 'row' | 'message' | 'schema' | 'attachment'

interface Wanted {
  readonly kind: EditKind
  /** Of the entity; of a schema: `/` and the name of its type. */
  readonly url: string
  readonly key: string
  /** Null: it is removed. The bytes of an attachment are written as Latin-1. */
  readonly value: string | null
}

export interface Edit extends Entry, Wanted {
  readonly caller: string
  /** Of the type, as an acknowledged amendment said. */
  readonly revision: number | undefined
}

export const attachmentBytes = (value: string): Buffer => Buffer.from(value, 'latin1')
export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

export class EditLoad {
  readonly #edits: Edit[] = []
  readonly #options: LoadOptions
  readonly #stopping = new AbortController()
  readonly #callers: Promise<unknown>

  private constructor(options: LoadOptions) {
    this.#options = options
    this.#callers = this.#run(options.callers ?? 8)
  }

  static start(this: void, options: LoadOptions): EditLoad {
    return new EditLoad(options)
  }

  async stop(): Promise<readonly Edit[]> {
    this.#stopping.abort()
    return await this.ended()
  }

  async ended(): Promise<readonly Edit[]> {
    await this.#callers
    return this.#edits
  }

  async #run(callers: number): Promise<void> {
    const { name, urls } = this.#options
    const [base = ''] = urls
    const notes = { externally_writable_collections: { notes: { type: 'state:notes' } } }
    const types = [{ name: 'edited', ...notes }, { name: `schemas-${name}` }]
    await Promise.all(types.map((type) => made(base, 'POST', '/entity-types', { description: 'x', ...type })))
    const entities = Array.from({ length: Math.ceil(callers / 2) }, (_, index) => `/edited/${name}-${index}`)
    await Promise.all(entities.map((url) => made(base, 'PUT', `/entities${url}`, { initialMessage: 'first' })))
    await Promise.all(
      Array.from({ length: callers }, (_, index) =>
        this.#call(urls[index % urls.length] ?? base, `c${index}`, entities[index % entities.length] ?? ''),
      ),
    )
  }

  async #call(base: string, caller: string, url: string): Promise<void> {
    for (let nth = 0; !this.#stopping.signal.aborted; nth += 1)
      for (const wanted of round(caller, nth, url, `/schemas-${this.#options.name}`)) {
        const edit = await asked(base, caller, wanted)
        this.#edits.push(edit)
        if (edit.outcome !== 'done') return // E1
      }
  }
}

/** Every caller again, with its tag: what of before is still under way must not come after it. All edits, these too. */
export async function comeBack(base: string, edits: readonly Edit[]): Promise<readonly Edit[]> {
  const tags = edits.filter(({ kind, value }) => kind === 'tag' && value === '0') // one a caller
  return [...edits, ...(await Promise.all(tags.map((tag) => asked(base, tag.caller, { ...wantedBy(tag), value: 'come back' }))))]
}

/** The id of an attachment is free, once nothing of it is there: uploads each of these again. */
export async function uploadAgain(base: string, lost: readonly Edit[]): Promise<readonly Edit[]> {
  return await Promise.all(lost.map((edit) => asked(base, edit.caller, wantedBy(edit))))
}

const wantedBy = ({ kind, url, key, value }: Edit): Wanted => ({ kind, url, key, value })

async function asked(base: string, caller: string, wanted: Wanted): Promise<Edit> {
  const { outcome, answer, text } = await outcomeOf(...requestOf(base, wanted))
  const revision = wanted.kind === 'schema' && outcome === 'done' ? (JSON.parse(text) as { revision: number }).revision : undefined
  return { caller, ...wanted, outcome, answer, revision }
}

/** Everything once; every second time the tag and the attachment go again. */
function round(caller: string, nth: number, url: string, type: string): readonly Wanted[] {
  const at = (kind: EditKind, key: string, value: string | null) => ({ kind, url: kind === 'schema' ? type : url, key, value })
  const file = `${caller}-file-${nth}`
  return [
    at('tag', `${caller}-tag`, String(nth)),
    at('row', `${caller}-row-${nth}`, `row ${nth}`),
    at('attachment', file, randomBytes(2_500).toString('latin1')),
    at('message', `${caller}-message`, `edit ${nth}`),
    at('schema', `${caller}-schema-${nth}`, 'a schema'),
    ...(nth % 2 === 0 ? [] : [at('tag', `${caller}-tag`, null), at('attachment', file, null)]),
  ]
}

function requestOf(base: string, { kind, url, key, value }: Wanted): readonly [url: string, init: RequestInit] {
  const entity = `${base}/_electric/entities${url}`
  const sent = (method: string, body: unknown): RequestInit => ({ method, headers: json, body: JSON.stringify(body) })
  const removed = { method: 'DELETE' }
  switch (kind) {
    case 'tag':
      return [`${entity}/tags/${key}`, value === null ? removed : sent('POST', { value })]
    case 'row':
      return [`${entity}/collections/notes`, sent('POST', { operation: 'insert', key, value: { text: value } })]
    case 'message':
      return [`${entity}/inbox/${key}`, sent('PATCH', { payload: value })]
    case 'schema':
      return [`${base}/_electric/entity-types${url}/schemas`, sent('PATCH', { state_schemas: { [key]: {} } })]
    case 'attachment':
      return value === null
        ? [`${entity}/attachments/${key}`, removed]
        : [`${entity}/attachments`, { method: 'POST', body: formOf(key, value) }]
  }
}

function formOf(id: string, value: string): FormData {
  const form = new FormData()
  form.append('file', new Blob([attachmentBytes(value) as unknown as ArrayBuffer]), 'a.bin')
  for (const [field, text] of Object.entries({ id, subjectType: 'inbox', subjectKey: 'm1' })) form.append(field, text)
  return form
}

/** What must be there before anything can be edited. */
async function made(base: string, method: string, path: string, body: unknown): Promise<void> {
  const { outcome, answer } = await outcomeOf(`${base}/_electric${path}`, { method, headers: json, body: JSON.stringify(body) })
  if (outcome !== 'done') throw new Error(`${method} ${path}: ${answer}`)
}
