/** Server-sent events of a stream (spec/14 §2.7): one data frame per entry, a control frame after each. */
import type { Offset } from '../../domain/ids.js'
import { isJsonType, isTextType } from './media-type.js'

const lineBreak = /\r\n|\r|\n/

export interface ControlFacts {
  readonly offset: Offset
  readonly cursor: string
  readonly upToDate: boolean
  /** The tail of a closed stream: the last frame there is. */
  readonly ended: boolean
}

export function controlFrame({ offset, cursor, upToDate, ended }: ControlFacts): string {
  const facts = ended
    ? { streamNextOffset: offset, streamClosed: true }
    : { streamNextOffset: offset, streamCursor: cursor, ...(upToDate ? { upToDate: true } : {}) }
  return `event: control\ndata:${JSON.stringify(facts)}\n\n`
}

/** Turns the entries of one stream, in order, into data frames. A character may be split between entries: its first bytes wait for the next one. */
export interface Framer {
  readonly isBase64: boolean
  /** How many bytes an entry may leave waiting. */
  readonly maxHeldBack: number
  /** Takes the bytes before the first entry: of a character that goes on there, an earlier response has held back the beginning. */
  resume(before: Buffer): void
  /** `isLast`: nothing can follow, so nothing is held back. */
  frame(data: Buffer, isLast: boolean): string
  /** What was held back, where nothing followed; empty where that is nothing. */
  rest(): string
}

export function framerFor(contentType: string): Framer {
  if (isJsonType(contentType)) return wholeFramer(false, (data) => `event: data\ndata:[${data.toString('utf8')}]\n\n`)
  if (!isTextType(contentType)) return wholeFramer(true, (data) => `event: data\ndata:${data.toString('base64')}\n\n`)
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
  return {
    isBase64: false,
    maxHeldBack: 3,
    resume: (before) => {
      decoder.decode(before, { stream: true })
    },
    frame: (data, isLast) => textFrame(decoder.decode(data, { stream: !isLast })),
    rest: () => {
      const text = decoder.decode()
      return text === '' ? '' : textFrame(text)
    },
  }
}

const wholeFramer = (isBase64: boolean, frame: Framer['frame']): Framer => ({
  isBase64,
  maxHeldBack: 0,
  resume: () => undefined,
  frame,
  rest: () => '',
})

function textFrame(text: string): string {
  const lines = text.split(lineBreak).map((line) => `data:${spaced(line)}\n`)
  return `event: data\n${lines.join('')}\n`
}

/** Clients take one space after the colon for the format's own: a line that begins with one is given another. */
const spaced = (line: string): string => (line.startsWith(' ') ? ` ${line}` : line)
