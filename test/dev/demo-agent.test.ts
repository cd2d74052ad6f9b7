/** `npm start` brings an agent that answers, today and tomorrow. */
import { type ChildProcess, spawn } from 'node:child_process'
import { eventually } from '../support/eventually.js'
import { Home } from '../support/start-command.js'
import type { WireEvent } from '../support/wire.js'
import { saidIn } from './echo-stage.js'

const json = { 'content-type': 'application/json' }

async function spawnEcho(url: string, id: string, message?: string): Promise<number> {
  const body = JSON.stringify(message === undefined ? {} : { initialMessage: message })
  const response = await fetch(`${url}/_electric/entities/echo/${id}`, { method: 'PUT', headers: json, body })
  await response.arrayBuffer()
  return response.status
}

async function send(url: string, id: string, payload: string): Promise<number> {
  const response = await fetch(`${url}/_electric/entities/echo/${id}/send`, {
    method: 'POST',
    headers: json,
    body: JSON.stringify({ payload }),
  })
  await response.arrayBuffer()
  return response.status
}

async function answersOf(url: string, id: string): Promise<readonly string[]> {
  const response = await fetch(`${url}/echo/${id}/main?offset=-1`)
  return saidIn((await response.json()) as readonly WireEvent[])
}

async function says(url: string, id: string, texts: readonly string[], withinMs = 30_000): Promise<void> {
  await eventually(
    async () => {
      const said = await answersOf(url, id)
      if (JSON.stringify(said) !== JSON.stringify(texts)) throw new Error(JSON.stringify(said))
      return true
    },
    { withinMs },
  )
}

describe('the demo agent of npm start', () => {
  let home: Home
  beforeEach(() => {
    home = new Home()
  })
  afterEach(async () => {
    await home.remove()
  })

  it('is followed live by the three commands that npm start suggests, and answers again after Ctrl-C and another start', async () => {
    const first = await home.start()
    await first.ready()
    expect(first.output).toContain('Demo agent   entity type "echo"')
    const [spawning = '', following = '', sending = ''] = first.output.split('\n').filter((line) => line.startsWith('  curl '))
    await run(spawning).ended
    const follower = run(following)
    try {
      await eventually(() => follower.output().includes('"finish_reason":"stop"'), { withinMs: 30_000 })
      await run(sending).ended
      await eventually(() => follower.output().split('"finish_reason":"stop"').length === 3, { withinMs: 30_000 })
    } finally {
      follower.process.kill()
    }
    expect(await answersOf(first.url, 'hello')).toEqual(['You said: Hello, agent', 'You said: How are you?'])
    first.kill('SIGINT')
    await first.ended

    const second = await home.start()
    await second.ready()
    expect(await send(second.url, 'hello', 'are you there?')).toBe(200)

    await says(second.url, 'hello', ['You said: Hello, agent', 'You said: How are you?', 'You said: are you there?'])
  })

  it('answers, after everything was killed and another start, an entity of yesterday, and once what it was answering', async () => {
    const long = Array.from({ length: 60 }, (_, index) => `w${index}`).join(' ')
    const first = await home.start()
    await first.ready()
    expect(await spawnEcho(first.url, 'yesterday', 'hello')).toBe(201)
    await says(first.url, 'yesterday', ['You said: hello'])
    await spawnEcho(first.url, 'cut-off', long)
    await eventually(async () => (await (await fetch(`${first.url}/echo/cut-off/main?offset=-1`)).text()).includes('text_delta'))

    for (const pid of [first.pid, ...first.descendants()]) process.kill(pid, 'SIGKILL')
    await first.ended
    const second = await home.start()
    await second.ready()
    expect(await send(second.url, 'yesterday', 'are you there?')).toBe(200)

    await says(second.url, 'yesterday', ['You said: hello', 'You said: are you there?'], 50_000)
    await says(second.url, 'cut-off', [`You said: ${long}`], 50_000) // the lease of the dead run ends after 30 s
  }, 120_000)
})

function run(command: string): { readonly process: ChildProcess; readonly output: () => string; readonly ended: Promise<unknown> } {
  const child = spawn('sh', ['-c', `exec ${command.trim()}`], { stdio: ['ignore', 'pipe', 'ignore'] })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString()
  })
  return { process: child, output: () => output, ended: new Promise((resolve) => child.once('close', resolve)) }
}
