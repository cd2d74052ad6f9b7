/**
 * Whether an operation's input is a batch at all: whoever starts a workflow by hand may hand it anything, and what no step can look at would be tried
 * for ever. What its items hold is for the rules, item by item (entities/item-forms.ts).
 */
import { type AgentsError, errors, type Violation } from './errors.js'

/** Ids of workflows and keys of indexes are made of it. */
const maxOperationIdBytes = 900

/** What all verdicts of a batch may weigh, where each quotes its item's URLs: beyond 2 MiB Temporal carries none, and the workflow could not end. */
const maxVerdictBytes = 1_400_000
const fixedVerdictBytes = 250
const timesQuoted = 2

const operationIdForm = `must be text of 1 to ${maxOperationIdBytes} bytes without U+0000`

/** Why an operation cannot be called so, or null. */
export function operationIdProblem(id: unknown): string | null {
  if (typeof id !== 'string' || id === '' || id.includes('\0')) return operationIdForm
  return id.length > maxOperationIdBytes || utf8Bytes(id) > maxOperationIdBytes ? operationIdForm : null
}

/** Why nothing can be begun for `batch`, or null. */
export function batchRefusal(batch: unknown): AgentsError | null {
  const violations = isMembers(batch)
    ? [...idViolations(batch.operationId, '/operationId'), ...itemsViolations(batch.items)]
    : [noObject('/')]
  return violations.length === 0 ? null : malformed(violations)
}

/** A refusal travels through Temporal. */
const maxViolations = 100

export const malformed = (violations: readonly Violation[]): AgentsError =>
  errors.INVALID_BODY().withDetails(violations.slice(0, maxViolations))

type Members = Readonly<Record<string, unknown>>

const isMembers = (value: unknown): value is Members => typeof value === 'object' && value !== null && !Array.isArray(value)

const noObject = (path: string): Violation => ({ path, message: 'must be object' })

function itemsViolations(items: unknown): Violation[] {
  if (!Array.isArray(items)) return [{ path: '/items', message: 'must be array' }]
  const weight = items.reduce((sum: number, item: unknown) => sum + verdictBytes(item), 0)
  if (weight > maxVerdictBytes)
    return [{ path: '/items', message: 'must be fewer, or have shorter URLs: their verdicts could not be answered' }]
  return items.flatMap((item: unknown, index) => itemViolations(item, `/items/${index}`))
}

function itemViolations(item: unknown, path: string): Violation[] {
  if (!isMembers(item)) return [noObject(path)]
  return ['operationId', 'payloadId'].flatMap((name) => (item[name] === undefined ? [] : idViolations(item[name], `${path}/${name}`)))
}

function idViolations(id: unknown, path: string): Violation[] {
  const message = operationIdProblem(id)
  return message === null ? [] : [{ path, message }]
}

function verdictBytes(item: unknown): number {
  const { url, source } = isMembers(item) ? item : {}
  return fixedVerdictBytes + timesQuoted * (textBytes(url) + textBytes(source))
}

const textBytes = (value: unknown): number => (typeof value === 'string' ? utf8Bytes(JSON.stringify(value)) : 0)

/** Workflows have no `Buffer`. */
function utf8Bytes(text: string): number {
  let bytes = text.length
  for (let index = 0; index < text.length; index += 1) {
    const unit = text.charCodeAt(index)
    if (unit > 0x7f) bytes += unit > 0x7ff ? 2 : 1
  }
  return bytes
}
