/** A TCP proxy before Postgres that can break a connection at the worst moment: after the commit arrived, before its answer does. */
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'

export interface PostgresProxy {
  readonly url: string
  /** The next `count` commits reach the database; their answers do not come back, the connections break. */
  loseAnswersOfCommits(count: number): void
  /** While refused, connections break at once. */
  refuse(refused: boolean): void
  /** Connections refused so far. */
  refusals(): number
  close(): Promise<void>
}

/** A simple query `COMMIT`, as `pg` sends it. */
const commitMessage = Buffer.from('COMMIT\0')

export async function startPostgresProxy(databaseUrl: string): Promise<PostgresProxy> {
  const target = new URL(databaseUrl)
  const sockets = new Set<Socket>()
  let toLose = 0
  let isRefusing = false
  let refusals = 0

  const server = createServer((client) => {
    if (isRefusing) {
      refusals += 1
      return client.destroy()
    }
    const database = connect(Number(target.port), target.hostname)
    for (const socket of [client, database]) {
      sockets.add(socket)
      socket.on('close', () => sockets.delete(socket))
      socket.on('error', () => undefined)
    }
    let isLosing = false
    client.on('data', (bytes) => {
      if (toLose > 0 && bytes.includes(commitMessage)) {
        toLose -= 1
        isLosing = true
      }
      database.write(bytes)
    })
    database.on('data', (bytes) => {
      if (!isLosing) return client.write(bytes)
      client.destroy()
      database.end()
      return true
    })
    client.on('close', () => database.end())
    database.on('close', () => client.destroy())
    return client
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  const url = new URL(databaseUrl)
  url.hostname = '127.0.0.1'
  url.port = String(typeof address === 'object' && address !== null ? address.port : 0)
  return {
    url: url.href,
    loseAnswersOfCommits: (count) => {
      toLose = count
    },
    refuse: (refused) => {
      isRefusing = refused
      if (refused) for (const socket of sockets) socket.destroy()
    },
    refusals: () => refusals,
    close: async () => {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}
