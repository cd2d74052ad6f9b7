import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eventually } from '../support/eventually.js'
import { expectStatus, Wire } from '../support/wire.js'

interface Line {
  readonly name: string
  readonly attributes: Readonly<Record<string, unknown>>
  readonly traceId: string
  readonly spanId: string
  readonly parentId?: string
  readonly pid: number
}

const folder = mkdtempSync(join(tmpdir(), 'agents-traces-'))
const file = join(folder, 'spans.jsonl')
let wire: Wire
beforeAll(async () => {
  writeFileSync(file, '')
  const preload = new URL('../support/tracing-preload.mjs', import.meta.url).href
  // The worker is another process: what it continues has travelled through Temporal.
  wire = await Wire.start({ replicas: 1, worker: 'separate', env: { NODE_OPTIONS: `--import ${preload}`, TRACES_FILE: file } })
})
afterAll(async () => {
  await wire.stop()
  rmSync(folder, { recursive: true, force: true })
})

const spansOf = (traceId: string): readonly Line[] =>
  readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Line)
    .filter((span) => span.traceId === traceId)

const caller = 'b7ad6b7169203331'
const traced = (traceId: string) => ({ headers: { traceparent: `00-${traceId}-${caller}-01` } })

describe('a trace', () => {
  it.each([
    ['spawn', 'PUT', '0af7651916cd43dd8448eb211c80319c', 201],
    ['signal', 'DELETE', '0af7651916cd43dd8448eb211c80319d', 200],
  ] as const)(
    'goes from the caller through HTTP and the workflow of a %s to its activity in another process',
    async (kind, method, traceId, status) => {
      expectStatus(status, await wire.ask(method, '/_electric/entities/chat/a', method === 'PUT' ? {} : undefined, traced(traceId)))

      const [request, activity] = await eventually(() => {
        const spans = spansOf(traceId)
        const request = spans.find(({ name }) => name === `HTTP ${method}`)
        const activity = spans.find(({ name }) => name === `electric_agents.${kind}`)
        return request !== undefined && activity !== undefined && ([request, activity] as const)
      })
      expect(request).toMatchObject({
        parentId: caller,
        attributes: {
          'http.method': method,
          'http.route': '/_electric/entities/:type/:instanceId',
          'http.status_code': status,
          'electric_agents.tenant_id': 'default',
        },
      })
      expect(activity).toMatchObject({ parentId: request.spanId, attributes: { 'electric_agents.entity.url': '/chat/a' } })
      expect(activity.pid).not.toBe(request.pid)
    },
  )

  it('of its own begins where a request brings none', async () => {
    const before = readFileSync(file, 'utf8').length
    expectStatus(200, await wire.ask('GET', '/_electric/entities'))

    const span = await eventually(
      () =>
        readFileSync(file, 'utf8').slice(before).includes('HTTP GET') &&
        JSON.parse(readFileSync(file, 'utf8').slice(before).split('\n')[0] ?? ''),
    )
    expect(span).not.toHaveProperty('parentId')
  })
})
