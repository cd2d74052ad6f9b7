import { execFile } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { eventually } from '../support/eventually.js'
import { Home, type StartCommand } from '../support/start-command.js'

const shell = promisify(execFile)
const json = { 'content-type': 'application/json' }

async function spawnEntity(url: string, id: string): Promise<number> {
  await fetch(`${url}/_electric/entity-types`, { method: 'POST', headers: json, body: '{"name":"chat","description":"for the test"}' })
  const response = await fetch(`${url}/_electric/entities/chat/${id}`, { method: 'PUT', headers: json, body: '{"initialMessage":"hello"}' })
  await response.arrayBuffer()
  return response.status
}

async function entityStatus(url: string, id: string): Promise<number> {
  const response = await fetch(`${url}/_electric/entities/chat/${id}`)
  await response.arrayBuffer()
  return response.status
}

describe('npm start', () => {
  let home: Home
  beforeEach(() => {
    home = new Home()
  })
  afterEach(async () => {
    await home.remove()
  })

  it('starts everything, and continues where it was after Ctrl-C', async () => {
    const first = await home.start()
    const firstMs = await first.ready()
    expect(await spawnEntity(first.url, 'a')).toBe(201)
    const stopBegan = Date.now()
    first.kill('SIGINT')
    expect(await first.ended).toMatchObject({ code: 0 })
    const stopMs = Date.now() - stopBegan
    await home.nothingRuns(0)

    const second = await home.start()
    const secondMs = await second.ready()
    expect(await entityStatus(second.url, 'a')).toBe(200)

    console.log(`first start ${firstMs} ms, stop ${stopMs} ms, start with existing data ${secondMs} ms`)
    expect(stopMs).toBeLessThan(10_000)
  })

  it.each([
    ['the main process', (started: StartCommand) => [started.pid]],
    ['the whole tree', (started: StartCommand) => [started.pid, ...started.descendants()]],
  ])('starts again after kill -9 of %s, with everything that was acknowledged', async (_what, victims) => {
    const first = await home.start()
    await first.ready()
    expect(await spawnEntity(first.url, 'a')).toBe(201)

    for (const pid of victims(first)) process.kill(pid, 'SIGKILL')
    await first.ended
    const second = await home.start({ PORT: new URL(first.url).port })
    await second.ready()

    expect(await entityStatus(second.url, 'a')).toBe(200)
    expect(await spawnEntity(second.url, 'b')).toBe(201)
  })

  it('leaves nothing running after kill -9 of the main process', async () => {
    const started = await home.start()
    await started.ready()

    started.kill('SIGKILL')

    await home.nothingRuns(15_000)
  })

  it('stops when the npm that started it is killed', async () => {
    const started = await home.start({}, ['npm', 'start'])
    await started.ready()

    started.kill('SIGKILL')

    await home.nothingRuns(15_000)
  })

  it('can be stopped while it is still starting', async () => {
    const started = await home.start()
    await eventually(() => home.processes().length > 0)

    started.kill('SIGINT')

    expect(await started.ended).toMatchObject({ code: 0 })
    await home.nothingRuns(0)
  })
})

describe('npm start without its demo agent, while it runs,', () => {
  const home = new Home()
  let started: StartCommand
  beforeAll(async () => {
    started = await home.start({ AGENTS_DEMO: 'false' })
    await started.ready()
  })
  afterAll(async () => {
    await home.remove()
  })

  it('says where everything is and what to try next, and never a password', () => {
    const password = readFileSync(join(home.dataFolder, 'postgres.password'), 'utf8')
    expect(started.output).toContain(`Server       ${started.url}`)
    expect(started.output).toMatch(/Temporal UI {2}http:\/\/127\.0\.0\.1:\d+/)
    expect(started.output.match(/^ {2}curl /gm)).toHaveLength(3)
    expect(started.output).not.toContain('Demo agent')
    expect(started.output).not.toContain(password)
  })

  it('runs the three commands that it suggests', async () => {
    const commands = started.output.split('\n').filter((line) => line.startsWith('  curl '))

    const answers: string[] = []
    for (const command of commands) answers.push((await shell('sh', ['-c', command])).stdout)

    expect(answers).toEqual([
      expect.stringContaining('"name":"chat"'),
      expect.stringContaining('"url":"/chat/hello"'),
      expect.stringContaining('Hello, agent'),
    ])
  })

  it('knows no echo', async () => {
    expect((await fetch(`${started.url}/_electric/entity-types/echo`)).status).toBe(404)
    const spawned = await fetch(`${started.url}/_electric/entities/echo/a`, { method: 'PUT', headers: json, body: '{}' })
    expect(spawned.status).toBe(404)
  })

  it('refuses a data folder on which another one runs', async () => {
    const second = await (await home.start()).ended

    expect(second.code).toBe(1)
    expect(second.stderr).toMatch(/^data folder: process \d+ is running on .*\. Stop it .*AGENTS_DATA_DIR.*\n$/)
    expect(await entityStatus(started.url, 'none')).toBe(404)
  })

  it('tells in one line which part broke, and stops the others', async () => {
    const temporal = home.processes().find((line) => line.includes('start-dev'))

    process.kill(Number(temporal?.split(' ')[0]), 'SIGKILL')

    const { code, stderr } = await started.ended
    expect(code).toBe(1)
    expect(stderr).toMatch(/^Temporal: it ended by itself \(SIGKILL\).*$/m)
    await home.nothingRuns(0)
  })
})

describe('npm start with a part that is missing or broken', () => {
  const home = new Home()
  let taken: Server
  let takenPort = 0
  beforeAll(async () => {
    taken = createServer()
    await new Promise<void>((resolve) => {
      taken.listen(0, '127.0.0.1', resolve)
    })
    const address = taken.address()
    takenPort = typeof address === 'object' && address !== null ? address.port : 0
  })
  afterAll(async () => {
    taken.close()
    await home.remove()
  })

  it.each([
    ['a wrong setting', () => ({ ELECTRIC_AGENTS_WORKER: 'nowhere' }), /^Invalid ELECTRIC_AGENTS_WORKER "nowhere"\..*\n$/],
    ['a port in use', () => ({ PORT: String(takenPort) }), /^server: port \d+ is in use\. .*PORT\.\n$/],
    [
      'no Postgres at its URL',
      () => ({ DATABASE_URL: 'postgres://u:secret@127.0.0.1:1/agents' }),
      /^Postgres: postgres:\/\/u@127\.0\.0\.1:1\/agents cannot be used: .*DATABASE_URL.*\n$/,
    ],
    [
      'no Temporal at its address',
      () => ({ TEMPORAL_ADDRESS: '127.0.0.1:1' }),
      /^Temporal: 127\.0\.0\.1:1, namespace "default", cannot be used: .*TEMPORAL_ADDRESS.*\n$/,
    ],
    [
      'no stream server at its URL',
      () => ({ DURABLE_STREAMS_URL: 'http://127.0.0.1:1/v1/stream' }),
      /^streams: http:\/\/127\.0\.0\.1:1\/v1\/stream does not answer: .*DURABLE_STREAMS_URL.*\n$/,
    ],
    [
      'a data folder that is a file',
      () => ({ AGENTS_DATA_DIR: '/dev/null' }),
      /^data folder: \/dev\/null cannot be used: .*AGENTS_DATA_DIR\.\n$/,
    ],
  ])('says so in one line, ends with exit code 1 and leaves nothing running: %s', async (_what, env, line) => {
    const { code, stderr } = await (await home.start(env())).ended

    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(line) })
    expect(stderr).not.toContain('secret')
    await home.nothingRuns(0)
  })

  it('says so in one line: data of another Postgres', async () => {
    const cluster = join(home.dataFolder, 'postgres')
    mkdirSync(cluster, { recursive: true })
    writeFileSync(join(cluster, 'PG_VERSION'), '12\n')

    const { code, stderr } = await (await home.start()).ended

    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringMatching(/^Postgres: .* was made by Postgres 12, this is Postgres 18\. .*AGENTS_DATA_DIR\.\n$/),
    })
    await home.nothingRuns(0)
  })
})
