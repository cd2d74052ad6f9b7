/**
 * The demo agent of `npm start`: the entity type `echo`, and its handler, which lives in the main process and meets the server over the public wire.
 *
 * D1  Entities keep the URL that their type named when they were spawned. So the port stays: it is chosen once, and remembered in the data folder.
 * D2  The handler listens before the server starts, so that a wake of yesterday finds it; the type is registered when the server answers.
 * D3  A type `echo` that somebody else has registered is left alone.
 * D4  The demo never keeps anything from starting: why it is missing is said in one line.
 *
 * A crash between the choice of a port and its use leaves a port that nobody uses yet.
 */
import { readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Configuration } from '../config.js'
import { outboundPolicy } from '../dispatch/outbound-policy.js'
import { Receiver } from './echo/receiver.js'
import { EchoType } from './echo/type.js'
import type { Wake } from './echo/wake.js'
import { freePort } from './ports.js'

export interface DemoAgent {
  /** The server answers by now: its type is registered, or taken away where it is switched off. The name of the type, if there is an agent behind it. */
  serverIsReady(): Promise<string | undefined>
  stop(): Promise<void>
}

export interface DemoAgentOptions {
  readonly configuration: Configuration
  readonly serverUrl: string
  readonly say: (line: string) => void
}

const portFile = 'echo.port'
/** Below what operating systems give to outgoing connections: else somebody's call could hold our port at the next start. */
const firstPort = 20_000
const ports = 12_000

/** Listens, if it may. */
export async function startDemoAgent({ configuration, serverUrl, say }: DemoAgentOptions): Promise<DemoAgent> {
  const saySo = (line: string): void => say(`demo agent: ${line}`)
  const type = new EchoType(serverUrl)
  const file = join(configuration.dataDir, portFile)
  const remembered = await rememberedPort(file)
  if (!configuration.demo) return withoutAgent(async () => await withdraw(type, remembered))
  const hindrance = hindranceOf(configuration)
  if (hindrance !== undefined) {
    saySo(`there is none: ${hindrance}`)
    return withoutAgent()
  }
  const onFailure = (wake: Wake, failure: unknown): void => saySo(`a wake of ${wake.entity.url} ended early: ${reasonOf(failure)}`)
  const receiver = new Receiver({ serverUrl, type: type.name, onFailure })
  try {
    const port = remembered ?? (await newPort(file))
    await receiver.listen(port)
    return {
      serverIsReady: async () => await register(type, handlerUrl(port), saySo),
      stop: async () => await receiver.stop(),
    }
  } catch (failure) {
    saySo(`there is none: its port cannot be had (${reasonOf(failure)}). Its entities are answered at the next start with that port free.`)
    return withoutAgent()
  }
}

const handlerUrl = (port: number): string => `http://127.0.0.1:${port}/echo`
const reasonOf = (failure: unknown): string => (failure instanceof Error ? failure.message : String(failure))

const withoutAgent = (once: () => Promise<void> = async () => undefined): DemoAgent => ({
  serverIsReady: async () => {
    await once()
    return undefined
  },
  stop: async () => undefined,
})

/** Takes away the type that an earlier start has registered: without an agent behind it, its entities would wait for ever. */
async function withdraw(type: EchoType, port: number | undefined): Promise<void> {
  try {
    if (port !== undefined && (await type.handler()) === handlerUrl(port)) await type.remove()
  } catch {
    // D4: what is left of an earlier start harms nobody
  }
}

async function register(type: EchoType, url: string, saySo: (line: string) => void): Promise<string | undefined> {
  try {
    const known = await type.handler()
    if (known === undefined || known === url) {
      await type.register(url)
      return type.name
    }
    const whose = `the type "${type.name}" is registered with another handler (${known ?? 'none'}) and left alone` // D3
    saySo(`there is none: ${whose}. Delete that type to have it at the next start.`)
  } catch (failure) {
    saySo(`there is none: its type could not be registered: ${reasonOf(failure)}`)
  }
  return undefined
}

/** Why the server could not reach the handler, or the handler the server. */
function hindranceOf({ allowDevFallback, outbound, rewriteLoopbackWebhooksTo }: Configuration): string | undefined {
  if (!allowDevFallback) return 'requests without a principal are refused (NODE_ENV=production)'
  if (!outboundPolicy(outbound).allows('127.0.0.1', '127.0.0.1'))
    return 'webhooks to loopback addresses are refused (ELECTRIC_AGENTS_OUTBOUND_PRIVATE)'
  if (rewriteLoopbackWebhooksTo !== undefined)
    return 'webhooks to loopback addresses go elsewhere (ELECTRIC_AGENTS_REWRITE_LOOPBACK_WEBHOOKS_TO)'
  return undefined
}

async function rememberedPort(file: string): Promise<number | undefined> {
  const text = await readFile(file, 'utf8').catch(() => '')
  return /^\d{4,5}\n$/.test(text) ? Number(text) : undefined
}

/** D1. */
async function newPort(file: string): Promise<number> {
  const port = await freePort(firstPort + Math.floor(Math.random() * ports))
  await writeFile(`${file}.new`, `${port}\n`)
  await rename(`${file}.new`, file)
  return port
}
