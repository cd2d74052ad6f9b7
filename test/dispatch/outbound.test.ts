import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Outbound, type OutboundCall, type Resolve } from '../../src/dispatch/outbound.js'
import { type OutboundPolicy, type OutboundPolicyOptions, outboundPolicy } from '../../src/dispatch/outbound-policy.js'

const open: (() => Promise<unknown>)[] = []
afterEach(async () => {
  await Promise.all(open.splice(0).map((close) => close()))
})

interface Place {
  readonly port: number
  readonly seen: readonly IncomingMessage[]
  readonly server: Server
}

async function place(answer: RequestListener): Promise<Place> {
  const seen: IncomingMessage[] = []
  const server = createServer((request, response) => {
    seen.push(request)
    answer(request, response)
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  open.push(async () => {
    server.closeAllConnections()
    await new Promise((closed) => server.close(closed))
  })
  return { port: (server.address() as AddressInfo).port, seen, server }
}

const redirecting = (location: () => string, status = 307) =>
  place((_, response) => response.writeHead(status, { location: location() }).end())

function outbound(policy: OutboundPolicy, { resolve, maxCalls = 10 }: { resolve?: Resolve; maxCalls?: number } = {}): Outbound {
  const made = new Outbound({ policy, maxCalls }, resolve)
  open.push(() => made.close())
  return made
}

const toLoopback = outboundPolicy({ privateNetworks: 'allow' })
const call = (url: string, more: Partial<OutboundCall> = {}): OutboundCall => ({
  method: 'GET',
  url,
  limitMs: 5_000,
  maxBytes: 1_000,
  maxRedirects: 3,
  ...more,
})
const resolvingTo =
  (...answers: readonly (readonly string[])[]): Resolve =>
  (_, answer) =>
    answer(
      null,
      (answers.length > 1 ? nextOf(answers) : (answers[0] ?? [])).map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
    )

const handedOut = new WeakMap<object, number>()
function nextOf<Item>(items: readonly Item[]): Item {
  const at = handedOut.get(items) ?? 0
  handedOut.set(items, at + 1)
  return items[Math.min(at, items.length - 1)] as Item // never empty here
}

describe('the policy', () => {
  const allows = (options: OutboundPolicyOptions, address: string, host = 'some.test') => outboundPolicy(options).allows(address, host)
  const [lenient, strict] = [{ privateNetworks: 'allow' }, { privateNetworks: 'refuse' }] as const

  it.each(['8.8.8.8', '1.1.1.1', '172.32.0.1', '100.128.0.1', '2606:4700::1111', '2a00:1450::1', '::ffff:8.8.8.8'])(
    'always lets %s be called: it is public',
    (address) => expect([allows(strict, address), allows(lenient, address)]).toEqual([true, true]),
  )

  it.each([
    ...['127.0.0.1', '127.255.255.254', '0.0.0.0', '10.0.0.1', '100.64.0.1', '172.16.0.1', '172.31.255.255', '192.168.1.1'],
    ...['::1', '::', '0:0:0:0:0:0:0:1', 'fc00::1', 'fdff:ffff::1'],
    ...['::ffff:127.0.0.1', '::ffff:7f00:1', '0:0:0:0:0:ffff:10.0.0.1', '::FFFF:C0A8:0101'],
  ])('lets %s be called where private networks may be', (address) =>
    expect([allows(strict, address), allows(lenient, address)]).toEqual([false, true]),
  )

  it.each([
    ...['169.254.169.254', '0.0.0.1', '192.0.0.1', '192.0.2.1', '198.18.0.1', '198.51.100.1', '203.0.113.1', '224.0.0.1', '240.0.0.1'],
    ...['255.255.255.255', 'fe80::1', 'fec0::1', 'ff02::1', '2001:db8::1', '2001::1', '100::1'],
    ...['::ffff:169.254.169.254', '::ffff:a9fe:a9fe', '::127.0.0.1', '::7f00:1', '64:ff9b::7f00:1', '64:ff9b:1::1', '2002:7f00:1::'],
    ...['', 'localhost', '127.1', '0x7f000001'],
  ])('never lets "%s" be called', (address) => {
    expect([allows(strict, address), allows(lenient, address)]).toEqual([false, false])
  })

  it.each([
    ['169.254.169.254', 'some.test', true],
    ['10.1.2.3', 'some.test', true],
    ['10.2.2.3', 'some.test', false],
    ['::ffff:10.1.2.3', 'some.test', true],
    ['fe80::7', 'some.test', true],
    ['127.0.0.1', 'RUNTIME.internal', true],
    ['127.0.0.1', 'xruntime.internal', false],
  ])('of %s at %s under named exceptions is %s', (address, host, expected) => {
    const allowed = ['169.254.169.254', '10.1.0.0/16', 'fe80::/64', 'runtime.Internal']
    expect(allows({ ...strict, allowed }, address, host)).toBe(expected)
  })
})

describe('a call', () => {
  it('returns the final answer, whatever its status, and sends only what the caller names', async () => {
    const there = await place((_, response) => response.writeHead(418, { 'x-kind': 'teapot' }).end('short'))

    const answer = await outbound(toLoopback).call(call(`http://ann:secret@127.0.0.1:${there.port}/a?b`, { headers: { 'x-mine': '1' } }))

    expect(answer).toMatchObject({ status: 418, headers: { 'x-kind': 'teapot' }, body: Buffer.from('short') })
    expect(there.seen[0]?.headers).toEqual({ host: `127.0.0.1:${there.port}`, connection: 'keep-alive', 'x-mine': '1' })
  })

  it.each(['127.0.0.1', '127.1', '0x7f000001', '2130706433', '017700000001', '[::1]', '[::ffff:127.0.0.1]', '0'])(
    'to the literal address %s is refused without a connection, however it is written',
    async (host) => {
      const there = await place((_, response) => response.end())

      const refused = outbound(outboundPolicy({ privateNetworks: 'refuse' })).call(call(`http://${host}:${there.port}/`))

      await expect(refused).rejects.toThrow('the address is not allowed')
      expect(there.seen).toEqual([])
    },
  )

  it('to a name with good and bad addresses uses only the good ones', async () => {
    const there = await place((_, response) => response.end('here'))
    const strict = outboundPolicy({ privateNetworks: 'refuse', allowed: ['127.0.0.1'] })

    const answer = await outbound(strict, { resolve: resolvingTo(['169.254.169.254', '::1', '127.0.0.1']) }).call(
      call(`http://mixed.test:${there.port}/`),
    )

    expect(answer.body.toString()).toBe('here')
  })

  it('is judged again when the name answers differently the next time', async () => {
    const there = await place((_, response) => response.writeHead(200, { connection: 'close' }).end())
    const rebinding = outbound(outboundPolicy({ privateNetworks: 'refuse', allowed: ['127.0.0.1'] }), {
      resolve: resolvingTo(['127.0.0.1'], ['169.254.169.254']),
    })
    const url = `http://rebinding.test:${there.port}/`

    await expect(rebinding.call(call(url))).resolves.toMatchObject({ status: 200 })
    await expect(rebinding.call(call(url))).rejects.toThrow('the address is not allowed')
  })

  it.each(['http://169.254.169.254/latest/meta-data', 'http://[::ffff:169.254.169.254]/', '//169.254.169.254/', 'http://bad.test/'])(
    'that is redirected to %s is refused',
    async (location) => {
      const there = await redirecting(() => location)

      const refused = outbound(toLoopback, { resolve: resolvingTo(['169.254.169.254']) }).call(call(`http://127.0.0.1:${there.port}/`))

      await expect(refused).rejects.toThrow('the address is not allowed')
    },
  )

  it.each([
    ['file:///etc/passwd', 'only http(s) URLs are called'],
    ['gopher://127.0.0.1/', 'only http(s) URLs are called'],
    ['http://:99999/', 'the redirect has no valid target'],
  ])('that is redirected to %s fails with: %s', async (location, reason) => {
    const there = await redirecting(() => location)

    await expect(outbound(toLoopback).call(call(`http://127.0.0.1:${there.port}/`))).rejects.toThrow(reason)
  })

  it.each(['file:///etc/passwd', 'ftp://127.0.0.1/', 'nothing', ''])('to "%s" is none', async (url) => {
    await expect(outbound(toLoopback).call(call(url))).rejects.toThrow('only http(s) URLs are called')
  })

  it('keeps its headers on its origin, loses them to another, and does not get them back', async () => {
    const back = await place((_, response) => response.end('end'))
    const other = await redirecting(() => `http://127.0.0.1:${back.port}/end`)
    const first = await place((request, response) => {
      const location = request.url === '/start' ? '/moved' : `http://127.0.0.1:${other.port}/`
      response.writeHead(308, { location }).end()
    })

    await outbound(toLoopback).call(call(`http://127.0.0.1:${first.port}/start`, { headers: { authorization: 'Bearer x' } }))

    expect(first.seen.map(({ headers }) => headers.authorization)).toEqual(['Bearer x', 'Bearer x'])
    expect([...other.seen, ...back.seen].map(({ headers }) => headers.authorization)).toEqual([undefined, undefined])
  })

  it.each([
    ['PUT', 301, 'PUT'],
    ['PUT', 307, 'PUT'],
    ['PUT', 303, 'GET'],
    ['POST', 302, 'GET'],
    ['POST', 308, 'POST'],
  ] as const)('with %s that is answered %i goes on with %s', async (method, status, next) => {
    const end = await place((_, response) => response.end())
    const start = await redirecting(() => `http://127.0.0.1:${end.port}/`, status)

    await outbound(toLoopback).call(call(`http://127.0.0.1:${start.port}/`, { method, body: 'x' }))

    expect(end.seen.map((request) => request.method)).toEqual([next])
  })

  it('follows as many redirects as it may, and not one more', async () => {
    const there = await place((request, response) => {
      const left = Number(request.url?.slice(1))
      if (left === 0) return response.end('end')
      return response.writeHead(302, { location: `/${left - 1}` }).end()
    })
    const calls = outbound(toLoopback)

    await expect(calls.call(call(`http://127.0.0.1:${there.port}/3`))).resolves.toMatchObject({ status: 200 })
    await expect(calls.call(call(`http://127.0.0.1:${there.port}/4`))).rejects.toThrow('more than 3 redirects')
  })

  it('ends at its deadline while nothing comes, while the body trickles, and over all redirects', async () => {
    const silent = await place(() => undefined)
    const trickling = await place((_, response) => {
      const timer = setInterval(() => response.write('.'), 20)
      response.on('close', () => clearInterval(timer))
    })
    const moved = await redirecting(() => `http://127.0.0.1:${silent.port}/`)
    const calls = outbound(toLoopback)

    const late = [silent, trickling, moved].map(({ port }) => calls.call(call(`http://127.0.0.1:${port}/`, { limitMs: 200 })))

    for (const ended of await Promise.allSettled(late))
      expect(ended).toMatchObject({ reason: { message: 'no answer within 0.2 s', isLate: true } })
  })

  it('ends at its deadline while the name is being resolved', async () => {
    const never: Resolve = () => undefined
    const startedAt = performance.now()

    const late = outbound(toLoopback, { resolve: never }).call(call('http://slow.test/', { limitMs: 200 }))

    await expect(late).rejects.toThrow('no answer within 0.2 s')
    expect(performance.now() - startedAt).toBeLessThan(5_000)
  })

  it('takes an answer of exactly its limit, and refuses a longer one without reading it to its end', async () => {
    const there = await place((request, response) => {
      if (request.url === '/fits') return response.end('x'.repeat(1_000))
      return response.write('x'.repeat(1_001)) // and never ends
    })
    const calls = outbound(toLoopback)

    expect((await calls.call(call(`http://127.0.0.1:${there.port}/fits`))).body).toHaveLength(1_000)
    await expect(calls.call(call(`http://127.0.0.1:${there.port}/endless`))).rejects.toThrow('the answer exceeds 1000 bytes')
  })

  it('beyond the calls in flight is refused, and takes the place of one that ended', async () => {
    const held = await place(() => undefined)
    const free = await place((_, response) => response.end())
    const calls = outbound(toLoopback, { maxCalls: 1 })

    const waiting = calls.call(call(`http://127.0.0.1:${held.port}/`, { limitMs: 300 }))
    await expect(calls.call(call(`http://127.0.0.1:${free.port}/`))).rejects.toThrow('Too many requests are waiting (outgoing calls)')
    await expect(waiting).rejects.toThrow('no answer')

    await expect(calls.call(call(`http://127.0.0.1:${free.port}/`))).resolves.toMatchObject({ status: 200 })
  })

  it('that fails says why, without the addresses behind the name', async () => {
    const gone = await place(() => undefined)
    await new Promise((closed) => gone.server.close(closed))
    const unknown: Resolve = (host, answer) => answer(Object.assign(new Error(`getaddrinfo ENOTFOUND ${host}`), { code: 'ENOTFOUND' }), [])

    const refused = outbound(toLoopback, { resolve: resolvingTo(['127.0.0.1', '::1']) }).call(call(`http://closed.test:${gone.port}/`))

    await expect(refused).rejects.toMatchObject({ message: 'connection refused', isLate: false })
    await expect(outbound(toLoopback, { resolve: unknown }).call(call('http://missing.test/'))).rejects.toMatchObject({
      message: 'unknown host',
    })
  })
})
