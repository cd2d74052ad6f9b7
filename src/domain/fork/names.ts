/** What the copies are called (spec/04 §10). Pure: the same operation makes the same names. */
import { createHash } from 'node:crypto'
import { AgentsError, errors } from '../errors.js'
import { type EntityUrl, entityUrl, maxEntityUrlBytes, maxStreamPathBytes, type OperationId, typeOf } from '../ids.js'
import { isSharedStateId } from '../shared-state.js'
import { sharedStateStreams } from './streams.js'

/** One per fork: eight hexadecimal digits. */
export const forkSuffix = (seed: string): string => createHash('sha256').update(`fork ${seed}`).digest('hex').slice(0, 8)

export const instanceIdOf = (url: EntityUrl): string => url.slice(url.indexOf('/', 1) + 1)

/** `…-fork-<suffix>`, then `…-fork-<suffix>-1`, `-2`, … */
const ending = (suffix: string, nth: number): string => `-fork-${suffix}${nth === 0 ? '' : `-${nth}`}`

/** The first free name of `oldId`'s copy. */
function firstFree<Name>(nameOf: (nth: number) => Name, isTaken: (name: Name) => boolean): Name {
  for (let nth = 0; ; nth += 1) {
    const name = nameOf(nth)
    if (!isTaken(name)) return name
  }
}

/** The URL of the copy of the entity at `url`. An id that would grow too long loses its end. */
export function forkedUrl(url: EntityUrl, suffix: string, isTaken: (url: EntityUrl) => boolean): EntityUrl {
  const type = typeOf(url)
  const id = instanceIdOf(url)
  return firstFree((nth) => {
    const end = ending(suffix, nth)
    const room = maxEntityUrlBytes - type.length - 2 - end.length
    const kept = id.length <= room ? id : withoutTornEscape(id.slice(0, room))
    const made = entityUrl(type, `${kept}${end}`)
    if (made === null) throw new Error(`the copy of ${url} has no name`)
    return made
  }, isTaken)
}

/** Without what is left of a percent-encoded character whose end is cut off. */
function withoutTornEscape(id: string): string {
  const whole = id.replace(/%[0-9a-f]?$/i, '')
  for (let bytes = 0; bytes < longestCharacterBytes; bytes += 1) {
    const kept = whole.slice(0, whole.length - 3 * bytes)
    if (isDecodable(kept)) return kept
  }
  return whole // nobody could decode it before either
}

const longestCharacterBytes = 4

/** The id of the copy of a shared state. An id that would grow too long, as it is or encoded in a path, loses its end. */
export function forkedSharedStateId(id: string, suffix: string, isTaken: (id: string) => boolean): string {
  return firstFree((nth) => {
    const end = ending(suffix, nth)
    const kept = longestBeginning(id, (beginning) => hasPlace(`${beginning}${end}`))
    return `${kept}${end}`
  }, isTaken)
}

const hasPlace = (id: string): boolean =>
  isSharedStateId(id) && sharedStateStreams(id).every((path) => Buffer.byteLength(path) <= maxStreamPathBytes)

/** In whole characters. What is longer than one that does not fit does not fit either. */
function longestBeginning(text: string, fits: (beginning: string) => boolean): string {
  if (fits(text)) return text
  const characters = [...text]
  const beginning = (length: number) => characters.slice(0, length).join('')
  let [fitting, tooLong] = [0, characters.length]
  while (tooLong - fitting > 1) {
    const middle = Math.floor((fitting + tooLong) / 2)
    if (fits(beginning(middle))) fitting = middle
    else tooLong = middle
  }
  return beginning(fitting)
}

/** The URL that a caller asks for: exact, or refused (row 16 of spec/04 §3). */
export function requestedUrl(source: EntityUrl, instanceId: string): EntityUrl | AgentsError {
  if (instanceId === '' || instanceId.includes('/')) return errors.FORK_ID_INVALID()
  return (isAddressable(instanceId) ? entityUrl(typeOf(source), instanceId) : null) ?? errors.INVALID_ENTITY_URL()
}

/** By which a fork is found: the URL that is asked for, or the one that will be made unless it is taken. */
export function forkAddress(source: EntityUrl, instanceId: string | undefined, id: OperationId): EntityUrl {
  const wanted = instanceId === undefined ? forkedUrl(source, forkSuffix(id), () => false) : requestedUrl(source, instanceId)
  return wanted instanceof AgentsError ? source : wanted // refused by the rules, in their order
}

/** Nobody could address what no server decodes, or no client sends: a URL ends where its fragment begins. */
function isAddressable(segment: string): boolean {
  return !segment.includes('#') && isDecodable(segment)
}

function isDecodable(segment: string): boolean {
  try {
    decodeURIComponent(segment)
    return true
  } catch {
    return false
  }
}
