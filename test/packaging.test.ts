/** What cannot run here is held to our code: every variable, port and command in the container files exists. */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'
import { z } from 'zod'
import { loadConfiguration } from '../src/config.js'
import { temporalVariables, variables } from '../src/config-variables.js'
import { dynamicConfig } from '../src/dev/temporal-flags.js'
import { limitDefinitions } from '../src/domain/limits.js'

const fileAt = (path: string): string => fileURLToPath(new URL(`../${path}`, import.meta.url))
const textAt = (path: string): string => readFileSync(fileAt(path), 'utf8')

const service = z.object({
  build: z.string().optional(),
  image: z.string().optional(),
  command: z.array(z.string()).optional(),
  ports: z.array(z.string()).default([]),
  environment: z.record(z.string(), z.string()).default({}),
  volumes: z.array(z.string()).default([]),
  depends_on: z.union([z.array(z.string()), z.record(z.string(), z.unknown())]).default([]),
  healthcheck: z.object({ test: z.array(z.string()) }).optional(),
})
const compose = z
  .object({ services: z.record(z.string(), service), volumes: z.record(z.string(), z.unknown()) })
  .parse(parse(textAt('docker-compose.yml'), { merge: true }))
const packageFile = z
  .object({ scripts: z.record(z.string(), z.string()), bin: z.record(z.string(), z.string()) })
  .parse(JSON.parse(textAt('package.json')))
const ours = Object.entries(compose.services).filter(([, { build }]) => build !== undefined)
const known = new Set<string>([
  ...Object.values(variables).flatMap(({ names }) => names),
  ...Object.keys(temporalVariables),
  ...Object.values(limitDefinitions).map(({ env }) => env),
])
const dockerfile = textAt('Dockerfile')

/** Whether a built file of `dist/`, or a script, has a source. */
const hasSource = (path: string): boolean => existsSync(fileAt(path.replace(/^dist\/(.*)\.js$/, 'src/$1.ts')))
const scriptsIn = (words: readonly string[]): readonly string[] => words.filter((word) => /^(dist|bin)\/.*\.m?js$/.test(word))

describe('docker-compose.yml', () => {
  it('has a server, a separate worker, Postgres, and Temporal on a database of its own with its UI', () => {
    expect(Object.keys(compose.services).sort()).toEqual(['postgres', 'server', 'temporal', 'temporal-postgres', 'temporal-ui', 'worker'])
    expect(compose.services.temporal?.environment.POSTGRES_SEEDS).toBe('temporal-postgres')
  })

  it.each(ours)('sets only variables that %s reads, and it accepts them', (_name, { environment }) => {
    expect(Object.keys(environment).filter((name) => !known.has(name))).toEqual([])
    expect(loadConfiguration(environment)).toMatchObject({ temporal: { address: 'temporal:7233' }, port: 4437 })
  })

  it('publishes the port that the server listens on', () => {
    const { port } = loadConfiguration(compose.services.server?.environment ?? {})

    expect(compose.services.server?.ports).toEqual([`${port}:${port}`])
    expect(compose.services.server?.healthcheck?.test.join(' ')).toContain(`:${port}/_electric/health`)
  })

  it('starts only programs that exist', () => {
    const commands = ours.flatMap(([, { command }]) => command ?? [])

    expect(scriptsIn(commands)).toEqual(['dist/worker.js'])
    expect(scriptsIn(commands).filter((script) => !hasSource(script))).toEqual([])
  })

  it('reaches only services and volumes that it has', () => {
    const services = Object.values(compose.services)
    const named = services.flatMap(({ volumes }) => volumes.map((volume) => volume.split(':')[0] ?? ''))
    const hosts = services.flatMap(({ environment }) =>
      Object.values(environment).flatMap((value) => [...value.matchAll(/(?:@|^)([a-z-]+):\d+/g)].map(([, host]) => host ?? '')),
    )

    expect(
      services
        .flatMap(({ depends_on: after }) => (Array.isArray(after) ? after : Object.keys(after)))
        .filter((name) => compose.services[name] === undefined),
    ).toEqual([])
    expect(hosts.filter((host) => compose.services[host] === undefined)).toEqual([])
    expect(named.filter((name) => (name.startsWith('./') ? !existsSync(fileAt(name)) : !(name in compose.volumes)))).toEqual([])
  })

  it('gives Temporal the flags of npm start', () => {
    const file = z
      .record(z.string(), z.array(z.object({ value: z.union([z.number(), z.string(), z.boolean()]) })))
      .parse(parse(textAt('temporal-dynamic-config.yml')))

    expect(Object.fromEntries(Object.entries(file).map(([key, [first]]) => [key, first?.value]))).toEqual(dynamicConfig)
  })
})

describe('the Dockerfile', () => {
  it('copies and runs only what exists', () => {
    const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, sources]) => sources?.split(' ') ?? [])
    const [, command] = /^CMD (\[.*\])$/m.exec(dockerfile) ?? []

    expect(copied.filter((path) => !existsSync(fileAt(path)))).toEqual([])
    expect(scriptsIn(z.array(z.string()).parse(JSON.parse(command ?? '[]'))).filter((script) => !hasSource(script))).toEqual([])
    expect(
      [...dockerfile.matchAll(/npm run (\S+)/g)]
        .map(([, script]) => script ?? '')
        .filter((script) => packageFile.scripts[script] === undefined),
    ).toEqual([])
  })

  it('sets only variables that exist, and exposes our port', () => {
    const set = [...dockerfile.matchAll(/^ENV (.+)$/gm)].flatMap(
      ([, line]) => line?.split(' ').map((pair) => pair.split('=')[0] ?? '') ?? [],
    )

    expect(set.filter((name) => !known.has(name))).toEqual([])
    expect(dockerfile).toMatch(/^EXPOSE 4437$/m)
  })
})

describe('package.json', () => {
  it('names only programs that exist', () => {
    const programs = [
      ...Object.values(packageFile.bin),
      ...Object.values(packageFile.scripts).flatMap((script) => scriptsIn(script.split(' '))),
    ]

    expect(programs.filter((program) => !hasSource(program))).toEqual([])
  })
})

it('services import what their Temporal client needs by the name of the package', () => {
  const print = `import('temporal-agents-server/client').then((ours) => console.log(Object.keys(ours).join()))`
  const names = execFileSync(process.execPath, ['-e', print], { cwd: fileAt(''), encoding: 'utf8' })
    .trim()
    .split(',')

  expect(names).toEqual(expect.arrayContaining(['spawn', 'fork', 'close', 'signal', 'AgentsError']))
})

describe('package-lock.json', () => {
  it('names the optional packages of every platform, else npm ci refuses it (node bin/complete-lockfile.mjs adds them)', async () => {
    const { missingFrom } = await import('../bin/complete-lockfile.mjs')

    expect(missingFrom(JSON.parse(textAt('package-lock.json')))).toEqual([])
  })
})
