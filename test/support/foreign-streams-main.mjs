/** The reference Durable Streams server as a process of its own: `node foreign-streams-main.mjs <data dir> <port> <long-poll ms>`. */
import { DurableStreamTestServer } from '@durable-streams/server'

const [dataDir, port, longPollTimeout] = process.argv.slice(2)
const server = new DurableStreamTestServer({ dataDir, port: Number(port), host: '127.0.0.1', longPollTimeout: Number(longPollTimeout) })
console.log(`listening ${await server.start()}`)
