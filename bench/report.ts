/** The numbers as text: for the terminal, and for docs/benchmarks.md. */
import { cpus, release, totalmem, type } from 'node:os'
import type { Numbers } from './measure.js'
import { type Aim, isMet, type Line, type Section } from './scenario.js'

const milliseconds = (value: number): string => (value >= 100 ? value.toFixed(0) : value.toFixed(value >= 10 ? 1 : 2))
const perSecond = (value: number): string => (Number.isNaN(value) ? '–' : value >= 100 ? value.toFixed(0) : value.toFixed(1))

const columns = ['what', 'callers', 'p50 ms', 'p99 ms', 'per s', 'errors', 'floor p50', 'floor per s', 'p50 ratio', 'per s ratio']

function cells({ what, callers, numbers, floor }: Line): readonly string[] {
  const { p50Ms, p99Ms, errors } = numbers
  const own = [what, String(callers), milliseconds(p50Ms), milliseconds(p99Ms), perSecond(numbers.perSecond), String(errors)]
  return [...own, ...(floor === undefined ? ['', '', '', ''] : besides(numbers, floor))]
}

const besides = (numbers: Numbers, floor: Numbers): readonly string[] => [
  milliseconds(floor.p50Ms),
  perSecond(floor.perSecond),
  (numbers.p50Ms / floor.p50Ms).toFixed(2),
  Number.isNaN(numbers.perSecond) ? '–' : (numbers.perSecond / floor.perSecond).toFixed(2),
]

const rounded = (value: number): string => (value >= 1_000 ? value.toFixed(0) : String(Number(value.toFixed(2))))

const verdict = (aim: Aim): string => {
  const bound = 'atMost' in aim.bound ? `≤ ${aim.bound.atMost}` : `≥ ${aim.bound.atLeast}`
  return `${isMet(aim) ? 'met   ' : 'MISSED'} ${aim.what}: ${rounded(aim.measured)} (aim ${bound})`
}

const row = (values: readonly string[]): string => `| ${values.join(' | ')} |`

export function sectionText({ name, lines, aims, notes = [] }: Section): string {
  const table = [row(columns), row(columns.map((_, index) => (index === 0 ? '---' : '---:'))), ...lines.map((line) => row(cells(line)))]
  const kinds = lines.flatMap(({ numbers }) => numbers.kinds)
  const said = [...aims.map(verdict), ...notes, ...(kinds.length === 0 ? [] : [`Errors: ${[...new Set(kinds)].join(', ')}`])]
  return `## ${name}\n\n${table.join('\n')}\n\n${said.map((line) => `- ${line}`).join('\n')}\n`
}

export interface Circumstances {
  readonly versions: Readonly<Record<string, string>>
  readonly commit: string
  readonly rounds: number
  readonly roundMs: number
}

export function heading({ versions, commit, rounds, roundMs }: Circumstances): string {
  const [cpu] = cpus()
  const parts = Object.entries(versions).map(([name, version]) => `${name} ${version}`)
  return `# Benchmarks

Written by \`npm run bench\`; do not edit. Ours beside raw floors on the same parts, from one run.

- Machine: ${cpus().length} × ${cpu?.model.trim() ?? 'unknown CPU'}, ${(totalmem() / 2 ** 30).toFixed(1)} GiB, ${type()} ${release()}
- Date: ${new Date().toISOString().slice(0, 16).replace('T', ' ')} UTC, commit ${commit}
- Parts: ${parts.join(', ')}; load generator, floors, server, Postgres and Temporal share the machine
- Every number is the median of ${rounds} rounds (of ${roundMs / 1_000} s, where a closed loop runs by time) after one that warms up; ours and floor take turns. Compare ratios, not absolutes.
- Floors: a transaction is BEGIN, INSERT, UPDATE, COMMIT; a start is \`workflow.start\` acknowledged, of a workflow that nobody runs; both without HTTP. A route that only parses, validates and answers is a route of our own HTTP shell.
`
}
