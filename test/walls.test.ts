/** The walls of the house (docs/design.md §6): imports point downwards only, and some things live in one place only. */
import { readdirSync, readFileSync } from 'node:fs'
import { join, posix } from 'node:path'
import { fileURLToPath } from 'node:url'

const src = fileURLToPath(new URL('../src/', import.meta.url))

interface Import {
  readonly from: string
  readonly to: string
  readonly isType: boolean
}

const files = readdirSync(src, { recursive: true, encoding: 'utf8' })
  .map((file) => file.replaceAll('\\', '/'))
  .filter((file) => file.endsWith('.ts'))
  .sort()
const textOf = new Map(files.map((file) => [file, readFileSync(join(src, file), 'utf8')]))
const withoutComments = (text: string): string => text.replaceAll(/\/\*[\s\S]*?\*\//g, '').replaceAll(/^\s*\/\/.*$/gm, '')

const statement = /(?:^|\n)\s*(import|export)\s+(type\s+)?([^'"`;]*?\bfrom\s+)?['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]\s*\)/g
const imports: readonly Import[] = files.flatMap((from) =>
  [...withoutComments(textOf.get(from) ?? '').matchAll(statement)]
    .filter(([, keyword, , clause]) => keyword !== 'export' || clause !== undefined)
    .map(([, , typeOnly, clause = '', target, dynamic]) => {
      const path = target ?? dynamic ?? ''
      const names = /^\{([^}]*)\}\s*from\s+$/
        .exec(clause)?.[1]
        ?.split(',')
        .map((name) => name.trim())
        .filter((name) => name !== '')
      const isType = typeOnly !== undefined || (names !== undefined && names.length > 0 && names.every((name) => name.startsWith('type ')))
      const to = path.startsWith('.') ? posix.normalize(posix.join(posix.dirname(from), path)).replace(/\.js$/, '.ts') : path
      return { from, to, isType }
    }),
)

const folderOf = (file: string): string => (file.includes('/') ? (file.split('/')[0] ?? '') : 'root')
const isOurs = (target: string): boolean => target.endsWith('.ts') && textOf.has(target)
const shown = ({ from, to }: Import): string => `${from} imports ${to}`

/** What each folder may import, besides itself. The folders of the top (dev, root) join everything together and may import all. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  domain: [],
  registry: ['domain'],
  streams: ['domain'],
  workflows: ['domain'],
  activities: ['registry', 'streams', 'domain'],
  dispatch: ['workflows', 'activities', 'registry', 'streams', 'domain'],
  client: ['workflows', 'activities', 'registry', 'streams', 'domain'],
  entities: ['dispatch', 'client', 'workflows', 'activities', 'registry', 'streams', 'domain'],
  shapes: ['entities', 'dispatch', 'registry', 'streams', 'domain'],
  http: ['entities', 'dispatch', 'client', 'shapes', 'workflows', 'activities', 'registry', 'streams', 'domain'],
  cli: ['entities', 'dispatch', 'client', 'registry', 'streams', 'domain'],
}
const top = ['root', 'dev']

/** Doors in the walls, each with its reason. */
function isDoor({ from, to, isType }: Import): boolean {
  if (folderOf(from) === 'streams' && to === 'registry/database.ts') return isType || from.startsWith('streams/postgres/') // the same database; the port names its transactions
  if (folderOf(from) === 'workflows' && folderOf(to) === 'activities') return isType // proxies need their types only
  return false
}

describe('the walls', () => {
  it('see the imports of every file', () => {
    expect(imports.length).toBeGreaterThan(files.length)
    expect(imports.filter(({ to }) => to.endsWith('.ts') && !isOurs(to) && !to.startsWith('..')).map(shown)).toEqual([])
  })

  it('let imports point downwards only', () => {
    const wrong = imports.filter(({ from, to }) => {
      const [here, there] = [folderOf(from), folderOf(to)]
      return isOurs(to) && here !== there && !top.includes(here) && !mayImport[here]?.includes(there)
    })

    expect(wrong.filter((one) => !isDoor(one)).map(shown)).toEqual([])
  })

  it('know every folder', () => {
    expect([...new Set(files.map(folderOf))].filter((folder) => !top.includes(folder) && mayImport[folder] === undefined)).toEqual([])
  })

  it('keep the rules of the domain free of I/O and of every other folder', () => {
    expect(imports.filter(({ from, to }) => folderOf(from) === 'domain' && folderOf(to) !== 'domain' && !isPure(to)).map(shown)).toEqual([])
  })

  it('let workflows import only the workflow SDK, the domain and types of activities', () => {
    const allowed = ['@temporalio/workflow', '@temporalio/common']
    const foreign = imports.filter(({ from, to }) => folderOf(from) === 'workflows' && !isOurs(to) && !allowed.includes(to))

    expect(foreign.map(shown)).toEqual([])
    for (const file of files.filter((name) => folderOf(name) === 'workflows'))
      expect(withoutComments(textOf.get(file) ?? '')).not.toMatch(/\bprocess\.|\bfetch\(/)
  })

  it('keep SQL in the registry and in the Postgres streams', () => {
    const isSqlPlace = (file: string): boolean => /^(registry|streams\/postgres|dev)\//.test(file) // dev creates the database itself
    const hasSql = (text: string): boolean =>
      /\bsql`|['"`]\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|CREATE|DROP|ALTER|LISTEN|NOTIFY)\s/.test(withoutComments(text))

    expect(files.filter((file) => !isSqlPlace(file) && hasSql(textOf.get(file) ?? ''))).toEqual([])
  })

  it('keep Fastify in http/', () => {
    const fastify = imports.filter(({ to }) => to === 'fastify' || to.startsWith('@fastify/') || to.startsWith('fastify-'))

    expect(fastify.filter(({ from, isType }) => folderOf(from) !== 'http' && !(isType && folderOf(from) === 'root')).map(shown)).toEqual([])
  })

  it('keep pg in the registry, the Postgres streams and the development environment', () => {
    expect(
      imports.filter(({ from, to, isType }) => to === 'pg' && !isType && !/^(registry|streams\/postgres|dev)\//.test(from)).map(shown),
    ).toEqual([])
  })

  it('keep embedded parts out of the server', () => {
    expect(imports.filter(({ from, to }) => folderOf(from) !== 'dev' && folderOf(to) === 'dev').map(shown)).toEqual([])
  })

  it('have no default exports', () => {
    expect(files.filter((file) => /^\s*export\s+default\b|\bas default\b/m.test(withoutComments(textOf.get(file) ?? '')))).toEqual([])
  })
})

/** Libraries and builtins without I/O. What a workflow reaches must be free of the builtins too: its bundle would not build. */
function isPure(target: string): boolean {
  return ['zod', 'ajv', 'ajv-formats', 'ajv/dist/2020.js', 'cron-parser', 'picomatch', 'lru-cache', 'node:crypto', 'node:vm'].includes(
    target,
  )
}
