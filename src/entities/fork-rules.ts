/** The rules of a fork (spec/04 §3), the same for a request over HTTP and for whoever starts workflows. */
import type { CheckedFork, ForkRules } from '../activities/parts.js'
import { isTerminal } from '../domain/entity.js'
import { AgentsError, errors } from '../domain/errors.js'
import { pointerOffset, unknownOffset } from '../domain/fork/cut.js'
import { requestedUrl } from '../domain/fork/names.js'
import type { EntityUrl, OperationId } from '../domain/ids.js'
import { refuseShape } from '../domain/json-shape.js'
import type { Limits } from '../domain/limits.js'
import type { ForkItem } from '../domain/operations.js'
import { refuseTags } from '../domain/tags.js'
import type { FoundEntity } from '../registry/entities.js'
import type { JudgedPrincipal } from './authorize.js'
import { forkFormRefusal } from './item-forms.js'
import { asValue, authorizing, callerOf, type EntityRules } from './rules.js'

/**
 * Rows 1 and 3–17, but for what only the subtree and its histories can tell (12, 14, 15). Throws the first refusal. Rows 16 and 17 come before any
 * waiting (FREE).
 */
export async function checkFork(
  rules: EntityRules,
  limits: Limits,
  item: ForkItem,
  id: OperationId,
  caller: JudgedPrincipal = callerOf(item),
): Promise<CheckedFork> {
  const source = await rules.lookUp(item.source)
  await authorizing(item, caller)('fork', source)
  if (source.type === 'principal') throw errors.PRINCIPAL_REFUSES('forked')
  if (item.pointer !== undefined && item.anchor !== undefined) throw errors.FORK_CUT_TWICE()
  await rules.checkDispatch(source.dispatch_policy, caller)
  const parent = item.parent === undefined ? null : await rules.checkParent(item.parent, item, caller)
  refuseWake(item)
  refuseSource(item, source)
  refuseOffset(item, source)
  refuseTagsOf(item, source, limits)
  const rootUrl = await freeUrl(rules, item, source.url)
  return { id, item, principal: caller, source: source.url, rootUrl, parent: parent?.url ?? null }
}

export const forkRulesOf = (rules: EntityRules, limits: Limits): ForkRules => ({
  checkFork: async (item, id) =>
    await asValue(async () => {
      const refusal = forkFormRefusal(item, limits.maxJsonDepth + 1) // an item holds what a body holds one level deeper
      if (refusal !== null) throw refusal
      return await checkFork(rules, limits, item, id)
    }),
})

/** Rows 9 and 10; wakes themselves come with their feature. */
function refuseWake({ wake, parent }: ForkItem): void {
  if (wake === undefined) return
  if (parent === undefined) throw errors.FORK_WAKE_NEEDS_PARENT()
  if (wake.subscriberUrl !== parent) throw errors.FORK_WAKE_NOT_PARENTS()
  throw errors.NOT_IMPLEMENTED('wakes')
}

/** Rows HEAD 11 and 12, PTR 12 and 13, as things stand now. */
function refuseSource(item: ForkItem, source: FoundEntity): void {
  const isAtHead = item.pointer === undefined && item.anchor === undefined
  const { waitTimeoutMs } = item
  if (isAtHead && waitTimeoutMs !== undefined && !(Number.isFinite(waitTimeoutMs) && waitTimeoutMs >= 0)) throw errors.FORK_WAIT_INVALID()
  const isEnded = isTerminal(source.status)
  if (isEnded && !isAtHead) throw errors.FORK_TERMINAL(source.url)
  if (source.parent !== null) throw errors.FORK_NOT_TOP_LEVEL()
  if (isEnded) throw errors.FORK_TERMINAL(source.url)
}

/** Of row PTR 14: what is no offset at all may be of any length, and never travels through Temporal. */
function refuseOffset({ pointer }: ForkItem, source: FoundEntity): void {
  if (pointer !== undefined && pointerOffset(pointer) === null) throw unknownOffset(source.url, pointer)
}

/** What a row cannot hold. */
function refuseTagsOf({ tags }: ForkItem, source: FoundEntity, limits: Limits): void {
  if (tags === undefined) return
  const refusal = refuseShape(tags, { maxDepth: 1, storable: true }) ?? refuseTags({ ...source.tags, ...tags }, limits)
  if (refusal !== null) throw refusal
}

/** Rows 16 and 17; the INSERT has the last word. */
async function freeUrl(rules: EntityRules, { instanceId }: ForkItem, source: EntityUrl): Promise<EntityUrl | null> {
  if (instanceId === undefined) return null
  const url = requestedUrl(source, instanceId)
  if (url instanceof AgentsError) throw url
  if (await rules.isTaken(url)) throw errors.DUPLICATE_URL(url)
  return url
}
