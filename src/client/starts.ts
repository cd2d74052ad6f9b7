/**
 * How workflows of ours are started: ids that read as sentences, summaries, search attributes (temporal-notes §9).
 * Used by the server's group commit and by services with nothing but a Temporal client.
 */
import { createHash } from 'node:crypto'
import type { WorkflowStartOptions } from '@temporalio/client'
import { defineSearchAttributeKey, type SearchAttributePair, type Workflow } from '@temporalio/common'
import { type EntityUrl, type OperationId, typeOf } from '../domain/ids.js'

export const defaultTaskQueue = 'agents'

/** Of the Schedule that starts the sweeps of a task queue. */
export const sweepScheduleId = (taskQueue: string): string => (taskQueue === defaultTaskQueue ? 'sweep' : `sweep:${taskQueue}`)

const maxWorkflowIdBytes = 1_000
const maxSummaryBytes = 400
/** Bytes that every server takes in one search attribute; ours is told to take more (temporal-notes §3.2). */
export const portableAttributeBytes = 2_000

const entityUrlsKey = defineSearchAttributeKey('EntityUrls', 'KEYWORD_LIST')
const entityTypeKey = defineSearchAttributeKey('EntityType', 'KEYWORD')
const operationIdKey = defineSearchAttributeKey('OperationId', 'KEYWORD')

/** Search attributes that a namespace must know, with their types. */
export const searchAttributes = { EntityUrls: 'KeywordList', EntityType: 'Keyword', OperationId: 'Keyword' } as const

/** What an operator reads first; lower is more urgent (temporal-notes §9). */
const priorities = { close: 1, signal: 1, spawn: 2, fork: 2 } as const
export type OperationKind = keyof typeof priorities

/** What is forked by these items of an operation, if anything is. */
export const sourcesOf = (items: readonly { readonly source?: EntityUrl }[]): readonly EntityUrl[] =>
  items.flatMap(({ source }) => source ?? [])

/** `spawn:/chat/a` for one entity, `spawn:64:<operation id>` for a batch. */
export function workflowIdOf(kind: OperationKind, urls: readonly EntityUrl[], operationId: OperationId): string {
  const [only] = urls
  return urls.length === 1 && only !== undefined ? boundedId(`${kind}:${only}`) : `${kind}:${urls.length}:${operationId}`
}

/** A second operation on an entity whose first one is still being worked on. */
export const secondWorkflowId = (kind: OperationKind, operationId: OperationId): string => `${kind}:again:${operationId}`

/** An id that is looked for again: tenants that share a namespace have entities at the same URLs, and each has a task queue of its own. */
export const idOfQueue = (taskQueue: string, id: string): string => boundedId(taskQueue === defaultTaskQueue ? id : `${taskQueue}:${id}`)

/** An id that every server takes; what is too long ends in a hash. */
export const boundedId = (id: string): string =>
  Buffer.byteLength(id) <= maxWorkflowIdBytes
    ? id
    : `${id.slice(0, maxWorkflowIdBytes - 65)}:${createHash('sha256').update(id).digest('hex')}`

export interface StartDetails {
  readonly kind: OperationKind
  readonly urls: readonly EntityUrl[]
  /** By what else it is found: what is forked. */
  readonly sources?: readonly EntityUrl[]
  readonly operationId: OperationId
  /** Most bytes of URLs in the search attribute; null where the namespace has no search attributes of ours. */
  readonly attributeBytes: number | null
}

/** What all starts of one operation share. */
export function startOptions(
  details: StartDetails,
): Pick<WorkflowStartOptions<Workflow>, 'workflowTaskTimeout' | 'staticSummary' | 'typedSearchAttributes' | 'priority'> {
  return {
    workflowTaskTimeout: '5s', // a task lost with its process is given to another one soon
    staticSummary: summaryOf(details),
    priority: { priorityKey: priorities[details.kind] },
    ...(details.attributeBytes === null ? {} : { typedSearchAttributes: attributesOf(details, details.attributeBytes) }),
  }
}

function summaryOf({ kind, urls }: StartDetails): string {
  const summary = urls.length === 1 ? `${kind} ${urls[0]}` : `${kind} ${urls.length} entities: ${urls.join(' ')}`
  return Buffer.byteLength(summary) <= maxSummaryBytes ? summary : `${summary.slice(0, maxSummaryBytes - 3)}…`
}

function attributesOf({ urls, sources = [], operationId }: StartDetails, attributeBytes: number): SearchAttributePair[] {
  const types = new Set(urls.map(typeOf))
  const [type] = types
  return [
    { key: entityUrlsKey, value: withinBytes([...new Set([...urls, ...sources])], attributeBytes) },
    { key: operationIdKey, value: operationId },
    ...(types.size === 1 && type !== undefined ? [{ key: entityTypeKey, value: type }] : []),
  ]
}

/** Of a workflow about one entity that is no operation. */
export const entityAttributes = (url: EntityUrl): SearchAttributePair[] => [
  { key: entityUrlsKey, value: [url] },
  { key: entityTypeKey, value: typeOf(url) },
]

/** As many URLs as fit; one costs its bytes and the punctuation of JSON. */
function withinBytes(urls: readonly EntityUrl[], bytes: number): EntityUrl[] {
  let left = bytes
  return urls.filter((url) => {
    left -= url.length + 3
    return left >= 0
  })
}
