/**
 * Ports of a test's own, for parts that come back to them after they were killed.
 *
 * The kernel gives none of these away by itself: they lie below its own range, so neither a connection nor a test that asks for any port takes one
 * while its part is dead. Jest's workers have ranges of their own, and a process gives none twice.
 */
import { freePort } from '../../src/dev/ports.js'

const first = 10_000
const perWorker = 1_400
const workers = 16

const worker = Number(process.env.JEST_WORKER_ID ?? process.pid) % workers
const given = new Set<number>()

export async function ownPort(): Promise<number> {
  for (let tries = 0; tries < perWorker; tries += 1) {
    const wanted = first + worker * perWorker + Math.floor(Math.random() * perWorker)
    if (given.has(wanted)) continue
    given.add(wanted)
    if ((await freePort(wanted)) === wanted) return wanted
  }
  throw new Error('this machine has no port left for a test')
}
