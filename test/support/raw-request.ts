/** A request exactly as it is given: `fetch` would repair its path. */
import { type IncomingHttpHeaders, request } from 'node:http'

export interface RawRequest {
  readonly method: string
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer | string
}

export interface RawAnswer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
}

export async function sendRaw(url: string, { method, path, headers, body }: RawRequest): Promise<RawAnswer> {
  const length = body.length > 0 ? { 'content-length': String(Buffer.byteLength(body)) } : {}
  return await new Promise((resolve, reject) => {
    const outgoing = request(new URL(url), { method, path, headers: { ...headers, ...length } }, (response) => {
      response.resume()
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers }))
      response.on('error', reject)
    })
    outgoing.on('error', reject)
    outgoing.end(body)
  })
}
