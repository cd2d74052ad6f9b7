import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { processBirth, takeLock } from '../../bin/process-lock.mjs'
import { eventually } from '../support/eventually.js'

const module = fileURLToPath(new URL('../../bin/process-lock.mjs', import.meta.url))

/** A process that tries to take the lock, says whether it did, and stays. */
async function contender(path: string): Promise<{ readonly child: ChildProcess; readonly took: boolean }> {
  const script = `const { takeLock } = await import(${JSON.stringify(module)}); console.log(takeLock(${JSON.stringify(path)}) === undefined); setInterval(() => {}, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  const took = await new Promise<boolean>((resolve) => {
    createInterface({ input: child.stdout }).once('line', (line) => resolve(line === 'true'))
  })
  return { child, took }
}

async function killed(child: ChildProcess): Promise<void> {
  const gone = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await gone
}

describe('a process lock', () => {
  let folder = ''
  let path = ''
  const children: ChildProcess[] = []
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'agents-lock-'))
    path = join(folder, 'run.lock')
  })
  afterEach(async () => {
    for (const child of children.splice(0)) await killed(child)
    rmSync(folder, { recursive: true, force: true })
  })

  const contend = async (count: number): Promise<readonly boolean[]> => {
    const all = await Promise.all(Array.from({ length: count }, async () => await contender(path)))
    children.push(...all.map(({ child }) => child))
    return all.map(({ took }) => took)
  }

  it('has one holder, however many try at once', async () => {
    expect((await contend(6)).filter((took) => took)).toHaveLength(1)
  })

  it('dies with its holder, and has one next holder', async () => {
    const first = await contender(path)
    expect(first.took).toBe(true)
    expect(takeLock(path)).toMatchObject({ pid: first.child.pid })

    await killed(first.child)

    expect((await contend(6)).filter((took) => took)).toHaveLength(1)
  })

  it('is free when its holder was another process with the same id', async () => {
    writeFileSync(`${path}.7`, JSON.stringify({ pid: process.pid, birth: 'long ago' }))

    expect(await contend(1)).toEqual([true])
    expect(readdirSync(folder)).toEqual(['run.lock.8'])
  })

  it('is free when its file is damaged', async () => {
    writeFileSync(`${path}.1`, '{"pid":')

    expect(await contend(1)).toEqual([true])
  })
})

/** Its first thread ends; another one, which holds what the process has open, stays until its input ends. */
const withoutFirstThread = `
import ctypes, platform, sys, threading
threading.Thread(target=sys.stdin.read).start()
exit_of_one_thread = 60 if platform.machine() == 'x86_64' else 93
ctypes.CDLL(None).syscall(exit_of_one_thread, 0)
`

describe('a process', () => {
  it('lives while a thread of it does, also without its first one', async () => {
    const child = spawn('python3', ['-c', withoutFirstThread], { stdio: ['pipe', 'ignore', 'inherit'] })
    const pid = child.pid ?? 0
    const birth = processBirth(pid)
    expect(birth).toBeDefined()
    await eventually(() => readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z '))

    expect(processBirth(pid)).toBe(birth)

    const gone = once(child, 'exit')
    child.stdin.end()
    await gone
    expect(processBirth(pid)).toBeUndefined()
  })
})
