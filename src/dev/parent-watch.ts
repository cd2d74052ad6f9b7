/** npm does not always take its script along: killed, it leaves the script running. So the script watches the npm that started it. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { processBirth } from '../../bin/process-lock.mjs'

const everyMs = 500

interface Ancestor {
  readonly name: string
  readonly parent: number
}

/** Settles when the npm above this process is gone; never, when there is none. */
export async function npmGone(): Promise<void> {
  const npm = process.env.npm_lifecycle_event === undefined ? undefined : npmAbove()
  const birth = npm === undefined ? undefined : processBirth(npm)
  const parent = process.ppid
  await new Promise<void>((resolve) => {
    if (npm === undefined || birth === undefined) return
    const timer = setInterval(() => {
      if (process.ppid === parent && processBirth(npm) === birth) return
      clearInterval(timer)
      resolve()
    }, everyMs)
    timer.unref()
  })
}

/** npm runs a script through a shell, which may replace itself by the script. */
function npmAbove(): number | undefined {
  const parent = ancestor(process.ppid)
  if (parent === undefined) return undefined
  return /^-?(ba|da|z|k|a)?sh$/.test(parent.name) ? parent.parent : process.ppid
}

function ancestor(pid: number): Ancestor | undefined {
  try {
    if (process.platform === 'linux') {
      const [, name = '', rest = ''] = /^\d+ \((.*)\) (.*)$/s.exec(readFileSync(`/proc/${pid}/stat`, 'utf8')) ?? []
      return { name, parent: Number(rest.split(' ')[1]) }
    }
    const [parent = '', ...name] = execFileSync('ps', ['-o', 'ppid=,comm=', '-p', String(pid)], { encoding: 'utf8' })
      .trim()
      .split(/\s+/)
    return { name: name.join(' ').replace(/^.*\//, ''), parent: Number(parent) }
  } catch {
    return undefined
  }
}
