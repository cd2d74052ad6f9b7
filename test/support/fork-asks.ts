/** How the model-based test asks for forks, and what the model says of it: a cut, or a refusal (spec/04 §3–§6). */
import type { Real } from './fork-copies.js'
import type { Cut, ForkModel, ModelEntity } from './fork-model.js'
import { refusal } from './wire.js'

/** What is asked, and what it means for the model; `refused`: how it must be. */
export interface Asked {
  readonly body: object
  readonly cut: Cut | null
  readonly refused?: { readonly status: number; readonly body: unknown }
}

const notTopLevel = { status: 400, body: refusal('INVALID_REQUEST', 'Only top-level entities can be forked') }
const ended = ({ url }: ModelEntity) => ({ status: 409, body: refusal('NOT_RUNNING', `Cannot fork terminal entity "${url}"`) })

export function atHead(model: ForkModel, root: ModelEntity): Asked {
  const dead = model.subtree(root).find(({ isKilled }) => isKilled)
  if (root.parent !== undefined) return { body: {}, cut: null, refused: notTopLevel }
  return { body: {}, cut: null, ...(dead === undefined ? {} : { refused: ended(root.isKilled ? root : dead) }) }
}

export function behind(model: ForkModel, root: ModelEntity, body: object, keeps: number | undefined): Asked {
  const cut = { keeps: keeps ?? 0 }
  if (root.isKilled) return { body, cut, refused: ended(root) }
  if (root.parent !== undefined) return { body, cut, refused: notTopLevel }
  if (keeps === undefined)
    return {
      body,
      cut,
      refused: { status: 400, body: refusal('INVALID_REQUEST', `Source ${root.url}/main has no completed run to fork from`) },
    }
  const dead = model.members(root, cut).find(({ isKilled }) => isKilled)
  return { body, cut, ...(dead === undefined ? {} : { refused: ended(dead) }) }
}

/** Minted as clients do, from a fresh read; `from` entries earlier it may begin, and then runs across their borders. */
export async function atPointer(model: ForkModel, real: Real, root: ModelEntity, nth: number, from: number): Promise<Asked> {
  const events = await real.read(root)
  const keeps = 1 + (nth % events.length)
  const ends = [...new Set(events.map(({ headers }) => String(headers.offset)))]
  const entry = ends.indexOf(String(events[keeps - 1]?.headers.offset))
  const offset = ends[entry - 1 - (from % (entry + 1))] ?? null
  const before = offset === null ? 0 : events.filter(({ headers }) => String(headers.offset) <= offset).length
  return behind(model, root, { fork_pointer: { offset, sub_offset: keeps - before } }, keeps)
}
