/** The events of an answer: a run, its text, the deltas of that text (spec/01 §7.1, §7.3–7.4), in keys that tell them from every other answer. Pure. */
import { iso } from '../../domain/events.js'
import type { Message } from './rows.js'
import type { WrittenEvent } from './wake.js'

export interface Answer {
  /** One log entry: the message gets its turn, the run begins. */
  readonly beginning: readonly WrittenEvent[]
  /** One log entry each, as a model's words come. */
  readonly deltas: readonly WrittenEvent[]
  ending(reason: 'stop' | 'aborted'): readonly WrittenEvent[]
}

const maxAnswerCharacters = 4_000
const maxDeltas = 40

/** Run `number` of the entity at `url` answers `message`. */
export function answerTo(message: Message, url: string, number: number, atMs: number): Answer {
  const run = `run-${number}`
  const text = `msg-${number}`
  return {
    beginning: [
      ...(message.isQueued ? [promotion(message, url, atMs)] : []),
      { type: 'run', key: run, value: { status: 'started' }, headers: { operation: 'insert', answers: message.key } },
      { type: 'text', key: text, value: { status: 'streaming', run_id: run }, headers: { operation: 'insert' } },
    ],
    deltas: wordsOf(`You said: ${message.text}`).map((delta, seq) => ({
      type: 'text_delta',
      key: `${text}:${seq}`,
      value: { text_id: text, run_id: run, delta },
      headers: { operation: 'insert' },
    })),
    ending: (reason): readonly WrittenEvent[] => [
      { type: 'text', key: text, value: { status: 'completed', run_id: run }, headers: { operation: 'update' } },
      { type: 'run', key: run, value: { status: 'completed', finish_reason: reason }, headers: { operation: 'update' } },
    ],
  }
}

/** A queued message gets its turn (spec/01 §7.9). */
const promotion = ({ key }: Message, url: string, atMs: number): WrittenEvent => ({
  type: 'inbox',
  key,
  value: { status: 'processed', processed_at: iso(atMs) },
  headers: { operation: 'update', from: url },
})

/** The text in pieces of whole words, and not in too many; the end of a long text is left out. */
export function wordsOf(text: string): readonly string[] {
  const characters = [...text] // never half of one
  const kept = characters.length > maxAnswerCharacters ? `${characters.slice(0, maxAnswerCharacters - 1).join('')}…` : text
  const words = kept.match(/\s*\S+\s*$|\s*\S+\s?/g) ?? [kept]
  const perDelta = Math.ceil(words.length / maxDeltas)
  return Array.from({ length: Math.ceil(words.length / perDelta) }, (_, index) =>
    words.slice(index * perDelta, (index + 1) * perDelta).join(''),
  )
}
