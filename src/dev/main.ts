/** `npm start`: runs the environment until Ctrl-C, until npm is gone, or until a part of it breaks. */
import { ConfigurationError } from '../config.js'
import { loadEnvFile } from '../env-file.js'
import { isScript } from '../process.js'
import { stopChildren } from './child.js'
import { type RunningEnvironment, startEnvironment } from './environment.js'
import { npmGone } from './parent-watch.js'
import { PartFailure } from './part.js'

const say = (line: string): void => {
  process.stdout.write(`${line}\n`)
}
const complain = (line: string): void => {
  process.stderr.write(`${line}\n`)
}

type End = { readonly asked: string } | { readonly broken: PartFailure }

export async function runDevelopment(): Promise<never> {
  const began = Date.now()
  const stopping = new AbortController()
  const asked = askedToStop()
  const gone = asked.then(async (end) => {
    stopping.abort()
    return end
  })
  loadEnvFile(process.cwd(), process.env)
  say('starting Postgres, Temporal and the server …')
  const starting = startEnvironment({
    environment: process.env,
    say,
    onServerOutput: (chunk) => process.stdout.write(chunk),
    signal: stopping.signal,
  })
  try {
    const running = await Promise.race([starting, gone])
    if ('asked' in running) return await abandon(starting, running.asked)
    announce(running, Date.now() - began)
    const end: End = await Promise.race([gone, running.broken.then((broken) => ({ broken }))])
    if ('asked' in end) say(`${end.asked}: stopping …`)
    else complain(end.broken.line)
    await running.stop()
    await stopChildren()
    return process.exit('asked' in end ? 0 : 1)
  } catch (failure) {
    complain(lineOf(failure))
    await stopChildren()
    return process.exit(1)
  }
}

/** Ctrl-C, a polite kill, a closed terminal, or a killed npm. */
async function askedToStop(): Promise<{ readonly asked: string }> {
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  const signalled = new Promise<{ readonly asked: string }>((resolve) => {
    for (const signal of signals) process.on(signal, () => resolve({ asked: signal }))
  })
  return await Promise.race([signalled, npmGone().then(() => ({ asked: 'npm is gone' }))])
}

/** Stops a start that is still under way. */
async function abandon(starting: Promise<RunningEnvironment>, why: string): Promise<never> {
  say(`${why}: stopping …`)
  await stopChildren()
  await starting.then(
    async (running) => await running.stop(),
    () => undefined, // it failed because its parts were stopped
  )
  await stopChildren()
  return process.exit(0)
}

function lineOf(failure: unknown): string {
  if (failure instanceof PartFailure) return failure.line
  if (failure instanceof ConfigurationError) return failure.message
  return failure instanceof Error ? (failure.stack ?? failure.message) : String(failure)
}

function announce({ url, description, demoType }: RunningEnvironment, tookMs: number): void {
  const lines = [
    '',
    `Ready in ${(tookMs / 1_000).toFixed(1)} s. Ctrl-C stops everything; the data stays.`,
    '',
    ...description.map(([name, what]) => `  ${name.padEnd(12)} ${what}`),
    '',
    'Three commands worth trying next:',
    '',
    ...(demoType === undefined ? commandsWithoutAgent(url) : commandsFor(demoType, url)).map((command) => `  ${command}`),
    '',
  ]
  say(lines.join('\n'))
}

const json = "-H 'content-type: application/json'"

/** Spawn it, follow it live, and talk to it from another terminal. */
const commandsFor = (type: string, url: string): readonly string[] => [
  `curl -X PUT ${url}/_electric/entities/${type}/hello ${json} -d '{"initialMessage":"Hello, agent"}'`,
  `curl -N '${url}/${type}/hello/main?offset=-1&live=sse'`,
  `curl -X POST ${url}/_electric/entities/${type}/hello/send ${json} -d '{"payload":"How are you?"}'`,
]

const commandsWithoutAgent = (url: string): readonly string[] => [
  `curl -X POST ${url}/_electric/entity-types ${json} -d '{"name":"chat","description":"A first agent"}'`,
  `curl -X PUT ${url}/_electric/entities/chat/hello ${json} -d '{"initialMessage":"Hello, agent"}'`,
  `curl '${url}/chat/hello/main?offset=-1'`,
]

if (isScript(import.meta.url)) await runDevelopment()
