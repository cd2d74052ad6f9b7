import pg from 'pg'
import { eventually } from '../support/eventually.js'
import { migratedDatabase, type OwnDatabase } from '../support/own-database.js'
import { ownPort } from '../support/ports.js'
import { launchProgram } from '../support/program.js'

const temporal = process.env.TEST_TEMPORAL_ADDRESS ?? ''
const programs = ['server', 'worker'] as const
let own: OwnDatabase
let client: pg.Client
let port: number
beforeAll(async () => {
  own = await migratedDatabase()
  client = new pg.Client({ connectionString: own.url })
  await client.connect()
  port = await ownPort()
})
afterAll(async () => {
  await client.end()
  await own.drop()
})

type Variables = Readonly<Record<string, string>>

const launch = (program: (typeof programs)[number], variables: Variables) =>
  launchProgram(program, { DATABASE_URL: own.url, PORT: String(port), ELECTRIC_AGENTS_LOG_LEVEL: 'silent', ...variables })

describe.each(programs)('a %s that cannot start', (program) => {
  it.each<[string, () => Variables, () => string]>([
    [
      'no Postgres',
      () => ({ DATABASE_URL: 'postgres://u:hunter2@127.0.0.1:1/agents' }),
      () =>
        'Postgres at postgres://u@127.0.0.1:1/agents cannot be used: connect ECONNREFUSED 127.0.0.1:1. Start it or correct DATABASE_URL.',
    ],
    [
      'no namespace',
      () => ({ TEMPORAL_NAMESPACE: 'nope' }),
      () =>
        `Temporal at ${temporal}, namespace "nope", cannot be used: Namespace nope is not found. Start it or correct TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE.`,
    ],
    [
      'too long a tenant',
      () => ({ TENANT_ID: 'a'.repeat(3_000) }),
      () => `Invalid tenant "${'a'.repeat(40)}…". Expected at most 200 bytes.`,
    ],
  ])('says which part, why and what to do, in one line: %s', async (_, variables, line) => {
    const child = launch(program, variables())

    expect(await child.exited).toEqual({ code: 1, signal: null })
    expect(child.output).toBe(`Cannot start the ${program}: ${line()}\n`)
  })
})

it('without Temporal they say so in one line too, after having waited for it', async () => {
  const children = programs.map((program) => launch(program, { TEMPORAL_ADDRESS: '127.0.0.1:1' }))

  for (const [index, child] of children.entries()) {
    expect(await child.exited).toEqual({ code: 1, signal: null })
    expect(child.output).toBe(
      `Cannot start the ${programs[index]}: Temporal at 127.0.0.1:1, namespace "default", cannot be used: Connection refused. Start it or correct TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE.\n`,
    )
  }
}, 60_000)

describe.each(programs)('a %s that is still starting', (program) => {
  it.each(['SIGTERM', 'SIGINT'] as const)('ends on %s at once, with exit code 0', async (signal) => {
    await client.query('BEGIN; LOCK TABLE schema_migrations')
    const child = launch(program, {})
    await eventually(async () => (await waitingForUs()).length > 0)

    child.kill(signal)

    expect(await child.exited).toEqual({ code: 0, signal: null })
    expect(child.output).toBe('')
    await client.query('ROLLBACK')
    await eventually(async () => (await waitingForUs()).length === 0)
  })

  const waitingForUs = async () =>
    (await client.query(`SELECT 1 FROM pg_locks WHERE relation = 'schema_migrations'::regclass AND NOT granted`)).rows
})
