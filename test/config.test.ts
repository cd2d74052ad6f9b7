import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { loadConfiguration, withoutPassword } from '../src/config.js'
import { loadEnvFile } from '../src/env-file.js'

const database = { DATABASE_URL: 'postgres://u:p@db/agents' }

describe('the configuration', () => {
  it('needs nothing but a database URL', () => {
    expect(loadConfiguration(database)).toMatchObject({
      databaseUrl: database.DATABASE_URL,
      port: 4437,
      host: '0.0.0.0',
      tenant: 'default',
      streams: undefined,
      poolMax: 100,
      temporal: { address: '127.0.0.1:7233', namespace: 'default', taskQueue: 'agents' },
      remarks: [],
    })
  })

  it('takes blank values as unset and trims the others', () => {
    const blank = {
      PORT: ' ',
      ELECTRIC_AGENTS_PORT: '',
      HOST: '',
      BASE_URL: '  ',
      DURABLE_STREAMS_URL: '',
      TEMPORAL_ADDRESS: ' ',
      TEMPORAL_NAMESPACE: '',
    }

    expect(loadConfiguration({ ...blank, DATABASE_URL: ` ${database.DATABASE_URL} ` })).toEqual(loadConfiguration(database))
  })

  it('takes the first name that is set', () => {
    const environment = {
      ...database,
      ELECTRIC_AGENTS_PORT: '',
      PORT: '5000',
      ELECTRIC_AGENTS_SERVICE: 's',
      TENANT_ID: 't',
      STREAMS_URL: 'http://c/v1/stream',
      DURABLE_STREAMS_URL: 'http://b/v1/stream',
    }

    expect(loadConfiguration(environment)).toMatchObject({ port: 5000, tenant: 's', streams: { url: 'http://b/v1/stream' } })
  })

  it.each([
    ['no database', {}, 'Missing Postgres connection URL. Set one of: "ELECTRIC_AGENTS_DATABASE_URL", "DATABASE_URL"'],
    ['no URL', { DATABASE_URL: 'nonsense' }, 'Invalid Postgres URL: "nonsense"'],
    ['a port out of range', { ...database, PORT: '0' }, 'Invalid ELECTRIC_AGENTS port "0". Expected an integer between 1 and 65535.'],
    [
      'a port that is no integer',
      { ...database, PORT: '1e3' },
      'Invalid ELECTRIC_AGENTS port "1e3". Expected an integer between 1 and 65535.',
    ],
    ['a bad base URL', { ...database, BASE_URL: 'x' }, 'Invalid base URL: "x"'],
    ['a bad streams URL', { ...database, STREAMS_URL: 'x' }, 'Invalid durable streams URL: "x"'],
    [
      'a bad streams port',
      { ...database, STREAMS_PORT: '70000' },
      'Invalid embedded streams port "70000". Expected an integer between 0 and 65535.',
    ],
    ['a bad Electric URL', { ...database, ELECTRIC_URL: 'x' }, 'Invalid Electric URL: "x"'],
    [
      'a bad recovery interval',
      { ...database, ELECTRIC_AGENTS_DISPATCH_RECOVERY_INTERVAL_MS: '-1' },
      'Invalid dispatch recovery interval "-1". Expected a positive integer.',
    ],
    [
      'a bad wake age',
      { ...database, ELECTRIC_AGENTS_STALE_OUTSTANDING_WAKE_AFTER_MS: 'x' },
      'Invalid stale outstanding wake age "x". Expected a positive integer.',
    ],
    ['no Ed25519 key', { ...database, WEBHOOK_SIGNING_PRIVATE_KEY: 'x' }, 'Webhook signing key must be an Ed25519 private key'],
    [
      'a bad limit',
      { ...database, ELECTRIC_AGENTS_MAX_JSON_DEPTH: '0' },
      'Invalid ELECTRIC_AGENTS_MAX_JSON_DEPTH "0". Expected a positive integer.',
    ],
  ])('refuses %s in the words of the spec', (_what, environment, message) => {
    expect(() => loadConfiguration(environment)).toThrow(message)
  })

  it.each([
    ['too long a tenant', { ...database, TENANT_ID: 'é'.repeat(101) }, `Invalid tenant "${'é'.repeat(40)}…". Expected at most 200 bytes.`],
    [
      'too long a task queue',
      { ...database, ELECTRIC_AGENTS_TASK_QUEUE: 'q'.repeat(901) },
      `Invalid ELECTRIC_AGENTS_TASK_QUEUE "${'q'.repeat(40)}…". Expected at most 900 bytes.`,
    ],
  ])('refuses %s, of which Temporal and Postgres would say so later and less clearly', (_what, environment, message) => {
    expect(() => loadConfiguration(environment)).toThrow(message)
  })

  it.each([
    ['an overlap of signing keys that receivers would notice', 'ELECTRIC_AGENTS_SIGNING_KEY_OVERLAP_MS', 330_000, 'least'],
    ['a fork lock that may end before the copying', 'ELECTRIC_AGENTS_FORK_LOCK_MS', 110_000, 'least'],
    ['a delivery that outlives the step that carries it out', 'ELECTRIC_AGENTS_DELIVERY_LIMIT_MS', 600_000, 'most'],
    ['an append that belongs to its dead process for very long', 'ELECTRIC_AGENTS_APPEND_INTENT_OWNED_MS', 600_000, 'most'],
    ['a grace period beyond any handler', 'ELECTRIC_AGENTS_STOP_GRACE_MS', 86_400_000, 'most'],
  ] as const)('refuses %s', (_what, name, bound, kind) => {
    const beyond = kind === 'least' ? bound - 1 : bound + 1

    expect(() => loadConfiguration({ ...database, [name]: String(beyond) })).toThrow(
      `Invalid ${name} "${beyond}". Expected at ${kind} ${bound}.`,
    )
    expect(() => loadConfiguration({ ...database, [name]: String(bound) })).not.toThrow()
  })

  it.each([
    ['db://user:hunter2@host/agents', 'db://user:***@host/agents'],
    ['db://user:hun:ter@2@host/agents', 'db://user:***@host/agents'],
    ['user:hunter2@host/agents', 'user:***@host/agents'],
    ['//user:hun:ter2@host/agents', '//user:***@host/agents'],
  ])('keeps the password out of its refusals: %s', (sent, shown) => {
    expect(() => loadConfiguration({ DATABASE_URL: sent })).toThrow(`Invalid Postgres URL: "${shown}"`)
  })

  it('shows a URL as it is, but for its password', () => {
    expect(withoutPassword('http://host:8787/v1/stream')).toBe('http://host:8787/v1/stream')
    expect(withoutPassword('https://me:hunter2@host:8787/v1/stream')).toBe('https://me:***@host:8787/v1/stream')
  })

  it('accepts a signing key as PEM with written line breaks, and as JWK', () => {
    const { privateKey } = generateKeyPairSync('ed25519')
    const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString().replaceAll('\n', '\\n')
    const jwk = JSON.stringify(privateKey.export({ format: 'jwk' }))

    expect(loadConfiguration({ ...database, WEBHOOK_SIGNING_PRIVATE_KEY: pem }).webhookSigningKey).toBe(pem)
    expect(loadConfiguration({ ...database, WEBHOOK_SIGNING_PRIVATE_KEY: jwk }).webhookSigningKey).toBe(jwk)
  })

  it('ignores a bad attachment limit, and says so of settings without effect', () => {
    const configuration = loadConfiguration({
      ...database,
      ELECTRIC_AGENTS_MAX_ATTACHMENT_BYTES: 'NaN',
      ELECTRIC_URL: 'http://electric:3000',
    })

    expect(configuration.limits.maxAttachmentBytes).toBe(26_214_400)
    expect(loadConfiguration({ ...database, ELECTRIC_AGENTS_MAX_ATTACHMENT_BYTES: '7.9' }).limits.maxAttachmentBytes).toBe(7)
    expect(configuration.remarks).toEqual([expect.stringContaining('ELECTRIC_URL')])
  })

  it('reaches a Temporal service with TLS and an API key', () => {
    const { temporal } = loadConfiguration({
      ...database,
      TEMPORAL_ADDRESS: 'cloud:7233',
      TEMPORAL_NAMESPACE: 'agents.x',
      TEMPORAL_API_KEY: 'key',
    })

    expect(temporal).toMatchObject({
      address: 'cloud:7233',
      namespace: 'agents.x',
      connection: { address: 'cloud:7233', tls: true, apiKey: 'key' },
    })
  })

  it('lets an environment variable override a limit', () => {
    expect(loadConfiguration({ ...database, ELECTRIC_AGENTS_MAX_JSON_DEPTH: '7' }).limits.maxJsonDepth).toBe(7)
  })
})

describe('the .env file', () => {
  it('fills in what is not set, and overrides nothing', () => {
    const folder = mkdtempSync(join(tmpdir(), 'agents-env-'))
    writeFileSync(join(folder, '.env'), '# comment\nPORT=5001\nHOST="10.0.0.1" # why\nexport SERVICE=\'a b\'\nKEY="x\\ny"\n')
    const target: Record<string, string | undefined> = { PORT: '6000', HOST: ' ' }

    loadEnvFile(folder, target)

    expect(target).toEqual({ PORT: '6000', HOST: '10.0.0.1', SERVICE: 'a b', KEY: 'x\ny' })
  })

  it('may leave a value blank, which is not set, and has the next line to itself', () => {
    const folder = mkdtempSync(join(tmpdir(), 'agents-env-'))
    writeFileSync(join(folder, '.env'), 'FIRST=\nSECOND=a b\n\nTHIRD= # why\r\nFOURTH=c\r\n')
    const target: Record<string, string | undefined> = {}

    loadEnvFile(folder, target)

    expect(target).toEqual({ FIRST: '', SECOND: 'a b', THIRD: '', FOURTH: 'c' })
  })

  it('may be missing', () => {
    const target = {}

    loadEnvFile('/nowhere', target)

    expect(target).toEqual({})
  })
})
