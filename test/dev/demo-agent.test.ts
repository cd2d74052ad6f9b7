/** `npm start` brings an agent that answers, today and tomorrow. */
import { type ChildProcess, spawn } from 'node:child_process'
import { eventually } from '../support/eventually.js'
import { Home, type StartCommand } from '../support/start-command.js'
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

  it.each([
    ['Ctrl-C', (started: StartCommand) => started.kill('SIGINT')],
    [
      'kill -9 of the whole tree',
      (started: StartCommand) => {
        for (const pid of [started.pid, ...started.descendants()]) process.kill(pid, 'SIGKILL')
      },
    ],
  ])('answers an entity of yesterday after %s and another start', async (_how, end) => {
    const first = await home.start()
    await first.ready()
    expect(first.output).toContain('Demo agent   entity type "echo"')
    expect(await spawnEcho(first.url, 'a', 'hello')).toBe(201)
    await says(first.url, 'a', ['You said: hello'])
    end(first)
    await first.ended

    const second = await home.start()
    await second.ready()
    expect(await send(second.url, 'a', 'are you there?')).toBe(200)

    await says(second.url, 'a', ['You said: hello', 'You said: are you there?'], 50_000)
  })

  it('answers once what it was answering when everything was killed', async () => {
    const long = Array.from({ length: 60 }, (_, index) => `w${index}`).join(' ')
    const first = await home.start()
    await first.ready()
    await spawnEcho(first.url, 'a', long)
    await eventually(async () => (await (await fetch(`${first.url}/echo/a/main?offset=-1`)).text()).includes('text_delta'))

    for (const pid of [first.pid, ...first.descendants()]) process.kill(pid, 'SIGKILL')
    await first.ended
    const second = await home.start()
    await second.ready()

    await says(second.url, 'a', [`You said: ${long}`], 50_000) // the lease of the dead run ends after 30 s
  }, 120_000)

  it('is followed live by the three commands that npm start suggests', async () => {
    const started = await home.start()
    await started.ready()
    const [spawning = '', following = '', sending = ''] = started.output.split('\n').filter((line) => line.startsWith('  curl '))

    await run(spawning).ended
    const follower = run(following)
    try {
      await eventually(() => follower.output().includes('"finish_reason":"stop"'), { withinMs: 30_000 })
      await run(sending).ended
      await eventually(() => follower.output().split('"finish_reason":"stop"').length === 3, { withinMs: 30_000 })
    } finally {
      follower.process.kill()
    }

    expect(await answersOf(started.url, 'hello')).toEqual(['You said: Hello, agent', 'You said: How are you?'])
  })

  it('is not there with AGENTS_DEMO=false', async () => {
    const started = await home.start({ AGENTS_DEMO: 'false' })
    await started.ready()

    expect(started.output).not.toContain('Demo agent')
    expect((await fetch(`${started.url}/_electric/entity-types/echo`)).status).toBe(404)
    expect(await spawnEcho(started.url, 'a')).toBe(404)
  })
})

function run(command: string): { readonly process: ChildProcess; readonly output: () => string; readonly ended: Promise<unknown> } {
  const child = spawn('sh', ['-c', `exec ${command.trim()}`], { stdio: ['ignore', 'pipe', 'ignore'] })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString()
  })
  return { process: child, output: () => output, ended: new Promise((resolve) => child.once('close', resolve)) }
}
