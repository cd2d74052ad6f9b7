/** Pages of lists: their size, and opaque cursors that say where the next one begins. */
import type { z } from 'zod'
import { errors } from '../domain/errors.js'

export function pageLimit(text: string | undefined, byDefault: number, most: number): number {
  if (text === undefined) return byDefault
  const limit = /^\d{1,6}$/.test(text) ? Number(text) : 0
  if (limit < 1 || limit > most) throw errors.INVALID_REQUEST(`limit must be an integer between 1 and ${most}`)
  return limit
}

export const cursorOf = (position: object): string => Buffer.from(JSON.stringify(position)).toString('base64url')

/** Refuses what no row could be: Postgres cannot compare with U+0000. */
export function positionIn<Position extends object>(cursor: string, schema: z.ZodType<Position>): Position {
  const parsed = schema.safeParse(parsedJson(Buffer.from(cursor, 'base64url').toString('utf8')))
  if (!parsed.success || Object.values(parsed.data).some(isUnstorable)) throw errors.INVALID_REQUEST('Invalid cursor')
  return parsed.data
}

const isUnstorable = (value: unknown): boolean => typeof value === 'string' && (value.includes('\0') || !value.isWellFormed())

function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
