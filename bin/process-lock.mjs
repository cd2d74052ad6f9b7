/**
 * A lock that dies with its process: files `<path>.<n>` whose content names the process that holds generation n.
 *
 * L1  Generation n is created once, complete (`link` of a finished file), so nobody reads half a holder.
 * L2  The holder is the process named in the highest generation, if that very process (id and start time) still runs.
 * L3  Whoever finds a dead holder creates n + 1; of several, one succeeds.
 *
 * A crash at any line leaves a dead holder's file or a stray `.tmp` file; both are harmless, the next holder removes them.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, linkSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'

/** What tells this process from a later one with the same id; undefined if no such process runs. */
export function processBirth(pid) {
  try {
    if (process.platform !== 'linux')
      return execFileSync('ps', ['-o', 'lstart=', '-p', String(pid)], { stdio: 'pipe' })
        .toString()
        .trim()
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ')
    const isOver = fields[0] === 'Z' && Number(fields[17]) <= 1 // else its other threads run on, with its files and ports
    return isOver ? undefined : `${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()}/${fields[19]}`
  } catch {
    return undefined
  }
}

function generations(path) {
  const name = `${basename(path)}.`
  if (!existsSync(dirname(path))) return []
  return readdirSync(dirname(path))
    .filter((file) => file.startsWith(name) && /^\d+$/.test(file.slice(name.length)))
    .map((file) => Number(file.slice(name.length)))
    .sort((a, b) => b - a)
}

function holderOf(path, generation) {
  try {
    const holder = JSON.parse(readFileSync(`${path}.${generation}`, 'utf8'))
    return processBirth(holder.pid) === holder.birth ? holder : undefined
  } catch {
    return undefined
  }
}

/** Takes the lock: undefined when it is ours now, else who holds it. `note` is told to those who are refused. */
export function takeLock(path, note = {}) {
  mkdirSync(dirname(path), { recursive: true })
  const draft = `${path}.${process.pid}.${Math.random().toString(36).slice(2)}.tmp`
  writeFileSync(draft, JSON.stringify({ ...note, pid: process.pid, birth: processBirth(process.pid) }))
  try {
    for (;;) {
      const [highest = 0] = generations(path)
      const holder = highest === 0 ? undefined : holderOf(path, highest)
      if (holder !== undefined) return holder
      if (!linked(draft, `${path}.${highest + 1}`)) continue // L3: another one was faster
      if (generations(path)[0] !== highest + 1) {
        rmSync(`${path}.${highest + 1}`, { force: true }) // a slow reader of an old generation: L2 says it is not ours
        continue
      }
      for (const old of generations(path).slice(1)) rmSync(`${path}.${old}`, { force: true })
      return undefined
    }
  } finally {
    rmSync(draft, { force: true })
  }
}

function linked(from, to) {
  try {
    linkSync(from, to)
    return true
  } catch (failure) {
    if (failure.code === 'EEXIST') return false
    throw failure
  }
}

/** Gives the lock back, if it is ours. */
export function releaseLock(path) {
  for (const generation of generations(path)) {
    if (holderOf(path, generation)?.pid === process.pid) rmSync(`${path}.${generation}`, { force: true })
  }
}

/** Runs `body` while holding the lock; waits for it as long as it takes, and says for whom. */
export async function withLock(path, body, onWait = () => undefined) {
  for (let told = false; ; told = true) {
    const holder = takeLock(path)
    if (holder === undefined) break
    if (!told) onWait(holder)
    await wait(200)
  }
  try {
    return await body()
  } finally {
    releaseLock(path)
  }
}
