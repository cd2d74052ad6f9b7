/**
 * The one-command environment: Postgres, Temporal and our server as one tree of processes, and a demo agent in the main one.
 *
 * V1  Nothing is started before the configuration is valid, the data folder is ours and the port is free.
 * V2  Parts that do not need each other start side by side; the server starts last, its open port says that all is ready.
 * V3  Whatever fails, everything that was started is stopped before the failure is told.
 * V4  `stop` ends the demo agent first, then the server, then what it uses, within ten seconds.
 */
import { join } from 'node:path'
import { type Configuration, loadConfiguration, shownUrl } from '../config.js'
import { variables } from '../config-variables.js'
import type { Environment } from '../env-file.js'
import { addressOf, startAgentsServer } from './agents-server.js'
import { stopChildren } from './child.js'
import { releaseDataFolder, takeDataFolder } from './data-folder.js'
import { startDemoAgent } from './demo-agent.js'
import { startEmbeddedPostgres } from './embedded-postgres.js'
import { givenPostgres, givenStreams, givenTemporal } from './given-parts.js'
import { type Part, PartFailure } from './part.js'
import { portIsFree } from './ports.js'
import { startTemporalServer, type TemporalPart } from './temporal-server.js'

export interface RunningEnvironment {
  readonly url: string
  readonly temporalUiUrl: string | undefined
  /** The entity type of the demo agent, if there is one. */
  readonly demoType: string | undefined
  /** What runs, for people; without passwords. */
  readonly description: readonly (readonly [name: string, what: string])[]
  /** The first part that ended by itself. */
  readonly broken: Promise<PartFailure>
  stop(): Promise<void>
}

export interface EnvironmentOptions {
  readonly environment: Environment
  readonly say: (line: string) => void
  /** Output of the server, as it comes. */
  readonly onServerOutput: (chunk: Buffer) => void
  /** Aborted: no further part is started. */
  readonly signal: AbortSignal
}

const isGiven = (environment: Environment, names: readonly string[]): boolean =>
  names.some((name) => (environment[name] ?? '').trim() !== '')
const temporalIsGiven = (environment: Environment): boolean =>
  isGiven(environment, ['TEMPORAL_ADDRESS', 'TEMPORAL_CONFIG_FILE', 'TEMPORAL_PROFILE'])

/** Starts everything. Throws `ConfigurationError` or `PartFailure`; nothing runs then. */
export async function startEnvironment(options: EnvironmentOptions): Promise<RunningEnvironment> {
  const { environment } = options
  const postgresIsGiven = isGiven(environment, variables.databaseUrl.names)
  const configuration = loadConfiguration(postgresIsGiven ? environment : { ...environment, DATABASE_URL: 'postgres://embedded/agents' })
  for (const remark of configuration.remarks) options.say(remark)
  await takeDataFolder(configuration.dataDir)
  try {
    await checkPort(configuration)
    return await startParts(configuration, postgresIsGiven, options)
  } catch (failure) {
    await stopChildren() // V3
    releaseDataFolder(configuration.dataDir)
    throw failure
  }
}

async function startParts(
  configuration: Configuration,
  postgresIsGiven: boolean,
  options: EnvironmentOptions,
): Promise<RunningEnvironment> {
  const { environment, say, signal } = options
  const { dataDir: folder, temporal: service, streams } = configuration
  // V2
  const [postgres, temporal] = await Promise.all([
    postgresIsGiven ? givenPostgres(configuration.databaseUrl) : startEmbeddedPostgres({ folder, logFile: logIn(folder, 'postgres') }),
    temporalIsGiven(environment)
      ? givenTemporal(service)
      : startTemporalServer({ folder, say, logFile: logIn(folder, 'temporal'), namespaces: [service.namespace] }),
    streams === undefined ? undefined : givenStreams(streams.url),
  ])
  signal.throwIfAborted()
  const demo = await startDemoAgent({ configuration, serverUrl: addressOf(configuration), say })
  try {
    const server = await startServer(configuration, { postgres, temporal }, options)
    signal.throwIfAborted()
    const demoType = await demo.serverIsReady()
    return {
      url: server.address,
      temporalUiUrl: isDevServer(temporal) ? temporal.uiUrl : undefined,
      demoType,
      description: descriptionOf(configuration, { postgres, temporal, server, demoType }),
      broken: Promise.race([postgres.broken, temporal.broken, server.broken]),
      stop: async () => {
        await demo.stop() // V4
        await server.stop()
        await Promise.all([postgres.stop(), temporal.stop()])
        releaseDataFolder(folder)
      },
    }
  } catch (failure) {
    await demo.stop() // V3
    throw failure
  }
}

interface UsedParts {
  readonly postgres: Part
  readonly temporal: Part | TemporalPart
}

const logIn = (folder: string, name: string): string => join(folder, 'logs', `${name}.log`)

async function startServer(configuration: Configuration, { postgres, temporal }: UsedParts, options: EnvironmentOptions): Promise<Part> {
  const { host, port, dataDir: folder } = configuration
  return await startAgentsServer({
    host,
    port,
    folder,
    env: {
      ELECTRIC_AGENTS_DATABASE_URL: postgres.address,
      ...(isDevServer(temporal) ? onlyThis(options.environment, temporal, configuration.temporal.namespace) : {}),
    },
    logFile: logIn(folder, 'server'),
    onOutput: options.onServerOutput,
  })
}

function descriptionOf(
  { streams, dataDir }: Configuration,
  { postgres, temporal, server, demoType }: UsedParts & { readonly server: Part; readonly demoType: string | undefined },
): RunningEnvironment['description'] {
  return [
    ['Server', server.shown],
    ['Temporal UI', isDevServer(temporal) ? (temporal.uiUrl ?? 'none') : `of ${temporal.shown}`],
    [
      'Temporal',
      isDevServer(temporal)
        ? `${temporal.shown} (dev server ${temporal.binary.version}, ${temporal.binary.from}: ${temporal.binary.path})`
        : temporal.shown,
    ],
    ['Postgres', postgres.shown],
    ['Streams', streams === undefined ? 'in Postgres' : shownUrl(streams.url)],
    ...(demoType === undefined ? [] : [['Demo agent', `entity type "${demoType}" (AGENTS_DEMO=false: none)`] as const]),
    ['Data', dataDir],
  ]
}

const isDevServer = (part: Part | TemporalPart): part is TemporalPart => 'binary' in part

/** The embedded Temporal needs neither TLS nor a key, whatever is set for another one. */
function onlyThis(environment: Environment, temporal: Part, namespace: string): Record<string, string | undefined> {
  const others = Object.keys(environment).filter((name) => name.startsWith('TEMPORAL_'))
  return {
    ...Object.fromEntries(others.map((name) => [name, undefined])),
    TEMPORAL_ADDRESS: temporal.address,
    TEMPORAL_NAMESPACE: namespace,
  }
}

const portPatienceMs = 3_000 // with a server that was killed just now

async function checkPort({ host, port }: Configuration): Promise<void> {
  await portIsFree(port, host, portPatienceMs).catch((failure: NodeJS.ErrnoException) => {
    const why = failure.code === 'EADDRINUSE' ? `port ${port} is in use` : `port ${port} of ${host} cannot be opened: ${failure.message}`
    throw new PartFailure('server', why, 'Stop what listens there, or choose another port with PORT.')
  })
}
