/** What a failed workflow says: the refusal of the catalogue that it failed with, never a text to be parsed. */
import { ApplicationFailure } from '@temporalio/common'
import type { Refusal } from '../domain/errors.js'

/** The refusal that a workflow of one failed with, or null. */
export function refusalOf(failure: unknown): Refusal | null {
  for (let cause: unknown = failure; cause instanceof Error; cause = cause.cause) {
    const detail: unknown = cause instanceof ApplicationFailure ? cause.details?.[0] : undefined
    if (isRefusal(detail)) return detail
  }
  return null
}

const isRefusal = (detail: unknown): detail is Refusal =>
  typeof detail === 'object' && detail !== null && 'code' in detail && 'status' in detail && 'message' in detail
