/** Where the wakes of a runner are announced (spec/07 §3.1, §4). Pure. */
import { errors } from '../domain/errors.js'
import { maxStreamPathBytes, type StreamPath } from '../domain/ids.js'
import { defaultWakeStream, survivingPath } from '../domain/runners.js'
import { categoryOf, normalised } from './stream-paths.js'

/**
 * The path that runner `id` asks for, or its own by default. Throws where the server must not write for it: it appends there, and locks others
 * out, so a path with rules of its own (an entity's, a shared state's, another runner's) is none.
 */
export function wakeStreamFor(id: string, asked: string | undefined): StreamPath {
  const own = defaultWakeStream(id)
  if (asked === undefined) return own
  const path = asked.startsWith('/') ? asked : `/${asked}`
  if (path === own || path === `/runners/${id}/wake`) return own
  const category = categoryOf(path)
  if (category.is === 'wakes') throw errors.WAKE_STREAM_TAKEN(path)
  if (category.is !== 'plain' || !isPlainPath(path)) throw errors.INVALID_REQUEST('wake_stream must be the path of a plain stream')
  return path as StreamPath
}

/** One spelling only: nothing that somebody could escape, resolve, or take for a pattern. */
const isPlainPath = (path: string): boolean =>
  path !== '/' &&
  path.length <= maxStreamPathBytes &&
  !path.includes('*') &&
  !path.includes('%') &&
  survivingPath(path) === path &&
  normalised(path) === path
