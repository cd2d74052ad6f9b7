/**
 * Answers that are lists, in the portions in which their rows are read (registry/portions.ts): what fits two of them is answered as one piece, what does not
 * goes out while it is read, as fast as the client takes it. A failure behind its beginning cuts the connection: no client takes half a list for one.
 */
import { Readable } from 'node:stream'
import type { FastifyReply } from 'fastify'
import { cutOffWhenStalled } from './stalled.js'

export async function sendList<Item>(
  reply: FastifyReply,
  portions: AsyncGenerator<readonly Item[]>,
  shown: (item: Item) => object,
): Promise<FastifyReply> {
  const first = await portions.next()
  const second = first.done ? first : await portions.next()
  if (second.done) return await reply.send(first.done ? [] : first.value.map(shown))
  reply.type('application/json; charset=utf-8')
  if (reply.request.method === 'HEAD') return await reply.send(Readable.from([]))
  cutOffWhenStalled(reply.raw, reply.server.limits.readStallMs)
  const texts = arrayText([first.value, second.value], portions, shown)
  return await reply.send(Readable.from(texts, { objectMode: false, highWaterMark: 1 })) // one chunk ahead of the client at most
}

/** The JSON text of all rows as one array, a row at a time. */
async function* arrayText<Item>(
  begun: (readonly Item[])[],
  portions: AsyncGenerator<readonly Item[]>,
  shown: (item: Item) => object,
): AsyncGenerator<string> {
  let before = '['
  for await (const items of followedBy(begun, portions)) {
    for (const item of items) {
      yield before + JSON.stringify(shown(item))
      before = ','
    }
  }
  yield before === '[' ? '[]' : ']'
}

/** Forgets what it has handed on. */
async function* followedBy<Item>(begun: Item[], rest: AsyncGenerator<Item>): AsyncGenerator<Item> {
  for (let item = begun.shift(); item !== undefined; item = begun.shift()) yield item
  yield* rest
}
