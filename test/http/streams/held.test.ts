/** What readers have not taken, by real sockets (held.ts). */
import { createServer, type Server } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { HeldParts, inParts } from '../../../src/http/streams/held.js'
import { eventually } from '../../support/eventually.js'

const mebibyte = 1024 * 1024
/** More than the sockets of both ends take. */
const entryBytes = 24 * mebibyte

let server: Server
let held: HeldParts
let sockets: Socket[]
let answer: () => Iterable<Buffer>
let asked: number

async function serve(maxBytes: number): Promise<void> {
  held = new HeldParts(maxBytes)
  sockets = []
  asked = 0
  server = createServer((_request, response) => {
    asked += 1
    inParts(answer(), response, held).pipe(response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
}

afterEach(async () => {
  for (const socket of sockets) socket.destroy()
  await new Promise((resolve) => server.close(resolve))
})

async function stalledReader(): Promise<Socket> {
  const before = asked
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1').on('error', () => undefined)
  sockets.push(socket)
  socket.pause().write('GET / HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n')
  await eventually(() => asked > before)
  return socket
}

const connections = async (): Promise<number> =>
  await new Promise((resolve, reject) => server.getConnections((failure, count) => (failure ? reject(failure) : resolve(count))))

async function bytesRead(socket: Socket): Promise<number> {
  let bytes = 0
  socket.on('data', (data) => {
    bytes += data.length
  })
  await new Promise((resolve) => socket.once('close', resolve).resume())
  return bytes
}

it('memory is counted once however many wait for it, and no longer than they do', async () => {
  const entry = Buffer.alloc(entryBytes)
  answer = () => [entry]
  await serve(2 * entryBytes)

  for (let reader = 0; reader < 6; reader += 1) await stalledReader()

  await eventually(() => held.bytes === entryBytes)
  expect(await connections()).toBe(6)
  for (const socket of sockets) socket.destroy()
  await eventually(() => held.bytes === 0)
})

it('whoever has stood still the longest is cut off where there is no room', async () => {
  answer = () => [Buffer.alloc(entryBytes)]
  await serve(3 * entryBytes)

  for (let reader = 0; reader < 7; reader += 1) {
    await stalledReader()
    await eventually(() => held.bytes === Math.min(reader + 1, 3) * entryBytes)
  }

  await eventually(async () => (await connections()) === 3)
  const whole = await Promise.all(sockets.map(bytesRead))
  expect(whole.map((bytes) => bytes > entryBytes)).toEqual([false, false, false, false, true, true, true])
  await eventually(() => held.bytes === 0)
})

it('one that is larger than all the room there is goes out to a reader who is alone', async () => {
  answer = () => [Buffer.alloc(entryBytes)]
  await serve(mebibyte)

  expect(await bytesRead(await stalledReader())).toBeGreaterThan(entryBytes)
  expect(held.bytes).toBe(0)
})

it('a part is asked for when the one before has left', async () => {
  let parts = 0
  answer = function* () {
    while (parts < 4) {
      parts += 1
      yield Buffer.alloc(entryBytes)
    }
  }
  await serve(64 * entryBytes)

  const socket = await stalledReader()

  await eventually(() => held.bytes === entryBytes)
  for (let beat = 0; beat < 20; beat += 1) {
    await new Promise((resolve) => setTimeout(resolve, 10))
    expect({ parts, bytes: held.bytes }).toEqual({ parts: 1, bytes: entryBytes })
  }
  expect(await bytesRead(socket)).toBeGreaterThan(4 * entryBytes)
  expect(parts).toBe(4)
})
