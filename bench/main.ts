/**
 * `npm run bench [-- --quick] [--only spawn,send]`: measures ours beside the floors on parts of its own.
 * A complete run writes docs/benchmarks.md; a quick or partial one only prints.
 */
import { execFileSync } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { startParts } from './parts.js'
import { heading, sectionText } from './report.js'
import { type Bench, isMet, type Scenario, type Section } from './scenario.js'
import { attachment } from './scenarios/attachments.js'
import { dispatch } from './scenarios/dispatch.js'
import { list, live, tag } from './scenarios/entities.js'
import { fork } from './scenarios/forks.js'
import { kill, spawn } from './scenarios/operations.js'
import { append, get, read, send } from './scenarios/requests.js'
import { restart } from './scenarios/restart.js'

const scenarios: Readonly<Record<string, Scenario>> = {
  spawn,
  fork,
  kill,
  send,
  append,
  read,
  get,
  tag,
  attachment,
  list,
  live,
  dispatch,
  restart,
}
const thorough = { rounds: 3, roundMs: 2_000, manyEntities: 10_000 }
const quick = { rounds: 1, roundMs: 1_000, manyEntities: 10_000 }

const { values } = parseArgs({ options: { quick: { type: 'boolean', default: false }, only: { type: 'string' } } })
const chosen = values.only?.split(',') ?? Object.keys(scenarios)
const unknown = chosen.filter((name) => scenarios[name] === undefined)
if (unknown.length > 0) {
  process.stderr.write(`No scenario is called ${unknown.join(', ')}; there are ${Object.keys(scenarios).join(', ')}.\n`)
  process.exit(1)
}

const extent = values.quick ? quick : thorough
const parts = await startParts()
let interrupted = false
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    interrupted = true
    const leave = () => process.exit(130)
    parts.stop().then(leave, leave)
  })
}
try {
  const bench: Bench = { parts, ...extent }
  const commit = execFileSync('git', ['describe', '--always', '--dirty'], { encoding: 'utf8' }).trim()
  const opening = heading({ versions: parts.versions, commit, ...extent })
  process.stdout.write(`${opening}\n`)
  const sections: Section[] = []
  for (const name of chosen) {
    const section = await scenarios[name]?.(bench)
    if (section === undefined) continue
    sections.push(section)
    process.stdout.write(`${sectionText(section)}\n`)
  }
  const aims = sections.flatMap((section) => section.aims)
  process.stdout.write(`${aims.filter(isMet).length} aims met, ${aims.filter((aim) => !isMet(aim)).length} missed\n`)
  if (!values.quick && values.only === undefined) {
    await writeFile(new URL('../docs/benchmarks.md', import.meta.url), [opening, ...sections.map(sectionText)].join('\n'))
  }
} catch (failure) {
  if (!interrupted) throw failure
} finally {
  await parts.stop()
}
