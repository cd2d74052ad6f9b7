/** A proxy before a Temporal server, on a port of its own, behind which calls of a method can be held up: a server that lives and is busy. */
import {
  type ClientHttp2Session,
  connect,
  constants,
  createServer,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2'

export class TemporalProxy {
  readonly #server: Http2Server
  readonly #upstream: ClientHttp2Session
  readonly #sessions = new Set<ServerHttp2Session>()
  #held: { readonly suffix: string; readonly until: Promise<unknown> } | undefined

  private constructor(target: string) {
    this.#upstream = connect(`http://${target}`)
    this.#upstream.on('error', () => undefined) // its calls fail by themselves
    this.#server = createServer()
    this.#server.on('session', (session) => {
      this.#sessions.add(session)
      session.once('close', () => this.#sessions.delete(session))
    })
    this.#server.on('stream', (stream, headers) => {
      stream.on('error', () => undefined) // its caller no longer waits
      const until = this.#held !== undefined && headers[':path']?.endsWith(this.#held.suffix) ? this.#held.until : Promise.resolve()
      until.then(() => this.#forward(stream, headers)).catch((failure: Error) => stream.destroy(failure))
    })
  }

  /** `target`: host and port of the server. */
  static async start(target: string): Promise<TemporalProxy> {
    const proxy = new TemporalProxy(target)
    await new Promise<void>((listening, failed) => {
      proxy.#server.once('error', failed)
      proxy.#server.listen(0, '127.0.0.1', listening)
    })
    return proxy
  }

  get address(): string {
    const address = this.#server.address()
    if (address === null || typeof address === 'string') throw new Error('a TCP server has a port')
    return `127.0.0.1:${address.port}`
  }

  /** From now on calls of `method`, as `StartWorkflowExecution`, or all of them, travel on only when `until` has come. */
  hold(until: Promise<unknown>, method?: string): void {
    this.#held = { suffix: method === undefined ? '' : `/${method}`, until }
  }

  async stop(): Promise<void> {
    const closed = new Promise((done) => this.#server.close(done))
    for (const session of this.#sessions) session.destroy()
    this.#upstream.destroy()
    await closed
  }

  #forward(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    if (stream.destroyed) return
    const call = this.#upstream.request(headers)
    let trailers: IncomingHttpHeaders = {}
    call.on('error', () => stream.close(constants.NGHTTP2_CANCEL))
    call.on('trailers', (received) => {
      trailers = received
    })
    call.on('response', (answer, flags) => {
      if ((flags & constants.NGHTTP2_FLAG_END_STREAM) > 0) return stream.respond(answer, { endStream: true })
      stream.respond(answer, { waitForTrailers: true })
      stream.once('wantTrailers', () => stream.sendTrailers(trailers))
      call.pipe(stream)
    })
    stream.once('close', () => call.close(constants.NGHTTP2_CANCEL))
    stream.pipe(call)
  }
}
