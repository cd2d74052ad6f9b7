/** Server-sent events of a stream (spec/14 §2.7): one data frame per entry, a control frame after each. */
import { isUtf8 } from 'node:buffer'
import type { Offset } from '../../domain/ids.js'
import { isJsonType, isTextType } from './media-type.js'

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

/**
 * Turns the entries of one stream, in order, into data frames. A character may be split between entries: its first bytes, `held` back, wait for the
 * next one. What is held back at a position depends on the stream alone, so readers who stand at the same one are given the same frames.
 */
export interface Framer {
  readonly isBase64: boolean
  /** How many bytes an entry may leave waiting. */
  readonly maxHeldBack: number
  /** What waits after `data`, where `held` waited before it. */
  heldBack(held: Buffer, data: Buffer): Buffer
  /** The frame of an entry, without what it leaves waiting. `isLast`: nothing can follow, so nothing is held back. */
  frame(held: Buffer, data: Buffer, isLast: boolean): Buffer
  /** What was held back, where nothing followed; empty where that is nothing. */
  rest(held: Buffer): Buffer
}

export function framerFor(contentType: string): Framer {
  if (isJsonType(contentType)) return wholeFramer(false, (data) => Buffer.concat([jsonHead, data, jsonEnd]))
  if (!isTextType(contentType))
    return wholeFramer(true, (data) => Buffer.from(`event: data\ndata:${data.toString('base64')}\n\n`, 'latin1'))
  return {
    isBase64: false,
    maxHeldBack: 3,
    heldBack: (held, data) => {
      const last = Buffer.concat([held, data.subarray(-3)])
      return last.subarray(last.length - unfinished(last))
    },
    frame: (held, data, isLast) => {
      const bytes = held.length === 0 ? data : Buffer.concat([held, data])
      return textFrame(wellFormed(isLast ? bytes : bytes.subarray(0, bytes.length - unfinished(bytes))))
    },
    rest: (held) => (held.length === 0 ? nothing : textFrame(wellFormed(held))),
  }
}

const nothing = Buffer.alloc(0)
const jsonHead = Buffer.from('event: data\ndata:[')
const jsonEnd = Buffer.from(']\n\n')

const wholeFramer = (isBase64: boolean, frame: (data: Buffer) => Buffer): Framer => ({
  isBase64,
  maxHeldBack: 0,
  heldBack: () => nothing,
  frame: (_held, data) => frame(data),
  rest: () => nothing,
})

/** How many bytes at the end of `bytes` begin a character that is not finished there. */
function unfinished(bytes: Buffer): number {
  const end = bytes.length
  for (let at = end - 1; at >= 0 && at >= end - 3; at -= 1) {
    const lead = bytes[at] as number
    if (lead < 0x80) return 0
    if (lead >= 0xc0) return begins(bytes.subarray(at)) ? end - at : 0
  }
  return 0
}

/** Whether this, from a first byte on, is less than a character and can become one. Some first bytes take only a part of the second ones. */
function begins(bytes: Buffer): boolean {
  const [lead = 0, second] = bytes
  if (lead < 0xc2 || lead > 0xf4) return false
  const size = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4
  if (bytes.length >= size) return false
  if (second === undefined) return true
  const least = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80
  const most = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf
  return second >= least && second <= most
}

const decoder = new TextDecoder('utf-8', { ignoreBOM: true })

/** With U+FFFD for what is no character. */
const wellFormed = (bytes: Buffer): Buffer => (isUtf8(bytes) ? bytes : Buffer.from(decoder.decode(bytes)))

const textHead = Buffer.from('event: data\n')
const lineHead = Buffer.from('data:')
const lineFeed = 0x0a
const carriageReturn = 0x0d
const space = 0x20

/** Byte by byte, in memory of the frame's own size: a text of line breaks alone would be millions of strings. */
function textFrame(text: Buffer): Buffer {
  const frame = Buffer.allocUnsafeSlow(writeLines(text, null))
  writeLines(text, frame)
  return frame
}

/** Writes the frame of `text`, line by line, where there is a place for it. Its length. */
function writeLines(text: Buffer, frame: Buffer | null): number {
  let length = textHead.length
  if (frame !== null) textHead.copy(frame)
  for (let from = 0; from <= text.length; ) {
    const to = lineEnd(text, from)
    if (frame !== null) lineHead.copy(frame, length)
    length += lineHead.length
    // Clients take one space after the colon for the format's own: a line that begins with one is given another.
    if (text[from] === space) {
      if (frame !== null) frame[length] = space
      length += 1
    }
    if (frame !== null && to > from) text.copy(frame, length, from, to)
    length += to - from
    if (frame !== null) frame[length] = lineFeed
    length += 1
    from = to + (text[to] === carriageReturn && text[to + 1] === lineFeed ? 2 : 1)
  }
  if (frame !== null) frame[length] = lineFeed
  return length + 1
}

function lineEnd(text: Buffer, from: number): number {
  for (let at = from; at < text.length; at += 1) {
    const byte = text[at]
    if (byte === lineFeed || byte === carriageReturn) return at
  }
  return text.length
}
