/** Configuration: one table of variables, from which the values, the refusals and docs/configuration.md come (spec/13 §3). */
import { resolve } from 'node:path'
import { loadClientConnectConfig } from '@temporalio/envconfig'
import type { NativeConnectionOptions } from '@temporalio/worker'
import { z } from 'zod'
import { variables } from './config-variables.js'
import { type LimitDefinition, type LimitName, type Limits, limitDefinitions } from './domain/limits.js'
import { parseSigningKey } from './domain/signing-keys.js'
import type { Environment } from './env-file.js'

/** A value that cannot be used, or a missing one; its message is the text of spec/13 §3. */
export class ConfigurationError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'ConfigurationError'
  }
}

export interface TemporalConfiguration {
  /** Address, TLS and API key, as `@temporalio/envconfig` reads them. */
  readonly connection: NativeConnectionOptions
  readonly address: string
  readonly namespace: string
  readonly taskQueue: string
}

export type Configuration = Readonly<
  Omit<
    z.infer<typeof values>,
    'streamsUrl' | 'streamsBearer' | 'taskQueue' | 'service' | 'tenantId' | 'outboundPrivate' | 'outboundAllowed'
  >
> & {
  /** Where calls to URLs that clients give may lead (docs/decisions/0009-outbound-calls.md). */
  readonly outbound: { readonly privateNetworks: 'allow' | 'refuse'; readonly allowed: readonly string[] }
  /** Whose rows and streams these are. */
  readonly tenant: string
  /** A foreign Durable Streams server; undefined: streams live in Postgres. */
  readonly streams: { readonly url: string; readonly bearer: string | undefined } | undefined
  readonly temporal: TemporalConfiguration
  readonly limits: Limits
  /** Requests without a principal act as `system:dev-local` (spec/12 §1.3). */
  readonly allowDevFallback: boolean
  /** Settings that were given and have no effect here, one line each. */
  readonly remarks: readonly string[]
}

const isUrl = (text: string, protocols = /^/): boolean => URL.canParse(text) && protocols.test(new URL(text).protocol)
const integerIn = (min: number, max: number) => (text: string) => /^\d+$/.test(text) && Number(text) >= min && Number(text) <= max

/** A URL as it may be shown; also one that lacks its scheme, and is refused for it. */
export const withoutPassword = (text: string): string => text.replace(/^((?:(?:[a-z][a-z\d+.-]*:)?\/\/)?[^:/@]*):.*@/i, '$1:***@')

/** Of a URL that is known to be one: where it leads, and as whom. */
export function shownUrl(text: string): string {
  const url = new URL(text)
  return `${url.protocol}//${url.username === '' ? '' : `${url.username}@`}${url.host}${url.pathname}`
}

const text = z.string()
const url = (what: string) =>
  text.refine((value) => isUrl(value), { error: ({ input }) => `Invalid ${what}: "${withoutPassword(String(input))}"` })
const port = (what: string, min: number) =>
  text
    .refine(integerIn(min, 65_535), {
      error: ({ input }) => `Invalid ${what} port "${input}". Expected an integer between ${min} and 65535.`,
    })
    .transform(Number)
const positive = (what: string) =>
  text
    .refine(integerIn(1, Number.MAX_SAFE_INTEGER), { error: ({ input }) => `Invalid ${what} "${input}". Expected a positive integer.` })
    .transform(Number)
/** Bytes, as Temporal and the indexes of Postgres count. */
const named = (what: string, maxBytes: number) =>
  text.refine((value) => Buffer.byteLength(value) <= maxBytes, {
    error: ({ input }) => `Invalid ${what} "${String(input).slice(0, 40)}…". Expected at most ${maxBytes} bytes.`,
  })
const oneOf = <const Names extends readonly [string, ...string[]]>(what: string, names: Names) =>
  z.enum(names, { error: ({ input }) => `Invalid ${what} "${input}". Expected one of: ${names.join(', ')}.` })

const schemas = {
  databaseUrl: text
    .default('')
    .refine((value) => value !== '', {
      error: 'Missing Postgres connection URL. Set one of: "ELECTRIC_AGENTS_DATABASE_URL", "DATABASE_URL"',
      abort: true,
    })
    .refine((value) => isUrl(value, /^postgres(ql)?:$/), {
      error: ({ input }) => `Invalid Postgres URL: "${withoutPassword(String(input))}"`,
    }),
  port: port('ELECTRIC_AGENTS', 1).default(4437),
  metricsPort: port('metrics', 1).optional(),
  host: text.default('0.0.0.0'),
  baseUrl: url('base URL').optional(),
  streamsUrl: url('durable streams URL').optional(),
  streamsBearer: text.optional(),
  streamsDataDir: text.optional(),
  streamsHost: text.optional(),
  streamsPort: port('embedded streams', 0).optional(),
  electricUrl: url('Electric URL').optional(),
  electricSecret: text.optional(),
  webhookSigningKey: text
    .refine((value) => parseSigningKey(value) !== null, { error: 'Webhook signing key must be an Ed25519 private key' })
    .optional(),
  service: named('tenant', 200).optional(),
  tenantId: named('tenant', 200).optional(),
  workingDirectory: text.default(process.cwd()),
  dispatchRecoveryIntervalMs: positive('dispatch recovery interval').optional(),
  staleOutstandingWakeAfterMs: positive('stale outstanding wake age').optional(),
  poolMax: positive('Postgres pool size').default(100),
  spawnConcurrency: text.optional(),
  rewriteLoopbackWebhooksTo: text
    .refine(isRewriteTarget, { error: ({ input }) => `Invalid loopback rewrite target: "${withoutPassword(String(input))}"` })
    .optional(),
  outboundPrivate: oneOf('ELECTRIC_AGENTS_OUTBOUND_PRIVATE', ['allow', 'refuse']).optional(),
  outboundAllowed: text
    .default('')
    .transform((value) => value.split(',').map((entry) => entry.trim()))
    .transform((entries) => entries.filter((entry) => entry !== '')),
  insecure: text.optional(),
  nodeEnv: text.optional(),
  refuseSystemPrincipals: oneOf('ELECTRIC_AGENTS_REFUSE_SYSTEM_PRINCIPALS', ['true', 'false'])
    .default('false')
    .transform((value) => value === 'true'),
  logLevel: oneOf('log level', ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
  logFile: text.default('true').transform((value) => value !== 'false'),
  logDir: text.default('logs').transform((value) => resolve(value)),
  taskQueue: named('ELECTRIC_AGENTS_TASK_QUEUE', 900).optional(), // the id of its Schedule and of what that starts has 1,000
  worker: oneOf('ELECTRIC_AGENTS_WORKER', ['in-process', 'separate']).default('in-process'),
  dataDir: text.default('.data').transform((value) => resolve(value)),
  demo: oneOf('AGENTS_DEMO', ['true', 'false'])
    .default('true')
    .transform((value) => value === 'true'),
} satisfies Record<keyof typeof variables, z.ZodType>
const values = z.object(schemas)

/** A host, `host:port`, or an http(s) URL. */
function isRewriteTarget(value: string): boolean {
  if (value.includes('://')) return isUrl(value, /^https?:$/)
  return URL.canParse(`http://${value}`) && new URL(`http://${value}`).pathname === '/' && !/[/?#@]/.test(value)
}

const withoutEffect = [
  'streamsDataDir',
  'streamsHost',
  'streamsPort',
  'electricUrl',
  'electricSecret',
  'dispatchRecoveryIntervalMs',
  'staleOutstandingWakeAfterMs',
  'spawnConcurrency',
] as const

/** The trimmed value of the first variable that is set; blank counts as unset. */
export function valueIn(environment: Environment, names: readonly string[]): string | undefined {
  return names.map((name) => environment[name]?.trim()).find((value) => value !== undefined && value !== '')
}

const defaultTenant = 'default'

/** A worker serves one tenant: tenants that share a Temporal namespace must not carry out each other's operations. */
const taskQueueOf = (tenant: string): string => (tenant === defaultTenant ? 'agents' : `agents:${tenant}`)

/** Reads everything. Throws `ConfigurationError` for the first value that is missing or wrong, in the order of the table. */
export function loadConfiguration(environment: Environment): Configuration {
  const texts = Object.fromEntries(Object.entries(variables).map(([key, { names }]) => [key, valueIn(environment, names)]))
  const parsed = values.safeParse(texts)
  if (!parsed.success) throw new ConfigurationError(parsed.error.issues[0]?.message ?? 'Invalid configuration')
  const { streamsUrl, streamsBearer, taskQueue, service, tenantId, outboundPrivate, outboundAllowed, ...rest } = parsed.data
  const tenant = service ?? tenantId ?? defaultTenant
  const isDevelopment = rest.insecure === 'true' || rest.nodeEnv !== 'production'
  return {
    ...rest,
    tenant,
    streams: streamsUrl === undefined ? undefined : { url: streamsUrl, bearer: streamsBearer },
    temporal: { ...temporalConnection(environment), taskQueue: taskQueue ?? taskQueueOf(tenant) },
    limits: limitsFrom(environment),
    allowDevFallback: isDevelopment,
    outbound: {
      privateNetworks: outboundPrivate ?? (isDevelopment ? 'allow' : 'refuse'),
      allowed: [...outboundAllowed, ...rewriteHost(rest.rewriteLoopbackWebhooksTo)],
    },
    remarks: withoutEffect
      .filter((key) => texts[key] !== undefined)
      .map((key) => `${variables[key].names.join(' / ')}: ${variables[key].what}`),
  }
}

/** Where the operator sends loopback URLs to may be called: that is what the setting is for. */
function rewriteHost(target: string | undefined): string[] {
  if (target === undefined) return []
  const { hostname } = new URL(target.includes('://') ? target : `http://${target}`)
  return [hostname.replace(/^\[|\]$/g, '')]
}

/** Where Temporal is. A configuration file is read only when it is asked for: what happens to be in a home folder decides nothing. */
export function temporalConnection(environment: Environment): Omit<TemporalConfiguration, 'taskQueue'> {
  const names = Object.keys(environment).filter((name) => name.startsWith('TEMPORAL_'))
  const set = Object.fromEntries(
    names.map((name) => [name, valueIn(environment, [name])]).filter((pair): pair is [string, string] => pair[1] !== undefined),
  )
  const disableFile = set.TEMPORAL_CONFIG_FILE === undefined && set.TEMPORAL_PROFILE === undefined
  try {
    const { connectionOptions, namespace } = loadClientConnectConfig({ overrideEnvVars: set, disableFile })
    const address = connectionOptions.address ?? '127.0.0.1:7233'
    return { connection: { ...connectionOptions, address }, address, namespace: namespace ?? 'default' }
  } catch (failure) {
    throw new ConfigurationError(`Invalid Temporal configuration: ${failure instanceof Error ? failure.message : String(failure)}`)
  }
}

function limitsFrom(environment: Environment): Limits {
  const read = (name: LimitName): number => {
    const { env, default: otherwise, ...more }: LimitDefinition = limitDefinitions[name]
    const value = valueIn(environment, [env])
    if (value === undefined) return otherwise
    if (more.lenient === true) return Number(value) >= 1 ? Math.min(Math.floor(Number(value)), Number.MAX_SAFE_INTEGER) : otherwise
    if (!integerIn(1, Number.MAX_SAFE_INTEGER)(value))
      throw new ConfigurationError(`Invalid ${env} "${value}". Expected a positive integer.`)
    if (more.least !== undefined && Number(value) < more.least)
      throw new ConfigurationError(`Invalid ${env} "${value}". Expected at least ${more.least}.`)
    if (more.most !== undefined && Number(value) > more.most)
      throw new ConfigurationError(`Invalid ${env} "${value}". Expected at most ${more.most}.`)
    return Number(value)
  }
  const names = Object.keys(limitDefinitions) as LimitName[]
  return Object.fromEntries(names.map((name) => [name, read(name)])) as Limits
}
