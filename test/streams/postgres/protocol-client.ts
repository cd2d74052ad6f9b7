/** Raw requests of the stream protocol, for tests that look at statuses and headers. */
import { randomBytes } from 'node:crypto'

export type Headers = Readonly<Record<string, string>>

export const newPath = (name = 'stream'): string => `/test/${name}-${randomBytes(5).toString('hex')}`

export const json: Headers = { 'content-type': 'application/json' }
export const text: Headers = { 'content-type': 'text/plain' }

export const producer = (id: string, epoch: number | string, seq: number | string): Headers => ({
  'producer-id': id,
  'producer-epoch': String(epoch),
  'producer-seq': String(seq),
})

export async function put(url: string, path: string, headers: Headers = {}, body?: string | Buffer): Promise<Response> {
  return await fetch(url + path, { method: 'PUT', headers, body: body ?? null })
}

export async function post(url: string, path: string, headers: Headers, body?: string | Buffer): Promise<Response> {
  return await fetch(url + path, { method: 'POST', headers, body: body ?? null })
}

export async function remove(url: string, path: string): Promise<Response> {
  return await fetch(url + path, { method: 'DELETE' })
}

export async function head(url: string, path: string): Promise<Response> {
  return await fetch(url + path, { method: 'HEAD' })
}

export async function get(url: string, path: string, query = '', headers: Headers = {}): Promise<Response> {
  return await fetch(url + path + (query === '' ? '' : `?${query}`), { headers })
}

/** All items of a JSON stream. */
export async function items(url: string, path: string): Promise<readonly unknown[]> {
  const response = await get(url, path)
  if (response.status !== 200) throw new Error(`GET ${path}: ${response.status} ${await response.text()}`)
  return (await response.json()) as readonly unknown[]
}

export async function created(url: string, path: string, headers: Headers = json, body?: string | Buffer): Promise<string> {
  const response = await put(url, path, headers, body)
  if (response.status !== 201) throw new Error(`PUT ${path}: ${response.status} ${await response.text()}`)
  return path
}

export interface SseEvent {
  readonly event: string
  readonly data: string
}

/** Events of one SSE response, as they come. */
export async function* sse(url: string, path: string, query: string, signal?: AbortSignal): AsyncGenerator<SseEvent> {
  const response = await fetch(`${url}${path}?${query}`, signal === undefined ? {} : { signal })
  if (response.status !== 200 || response.body === null) throw new Error(`SSE ${path}: ${response.status}`)
  let rest = ''
  const decoder = new TextDecoder()
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
    rest += decoder.decode(chunk, { stream: true })
    const frames = rest.split('\n\n')
    rest = frames.pop() ?? ''
    for (const frame of frames) yield parsed(frame)
  }
}

function parsed(frame: string): SseEvent {
  const lines = frame.split('\n')
  const event = lines.find((line) => line.startsWith('event: '))?.slice(7) ?? ''
  const data = lines.filter((line) => line.startsWith('data:')).map((line) => line.slice(5).replace(/^ /, '')) // as SSE parsers do
  return { event, data: data.join('\n') }
}
