import { metricDefinitions } from '../../src/metrics.js'
import { eventually } from '../support/eventually.js'
import { ownPort } from '../support/ports.js'
import { expectStatus, Wire } from '../support/wire.js'

let wire: Wire
let port: number
beforeAll(async () => {
  port = await ownPort()
  wire = await Wire.start({ replicas: 1, env: { ELECTRIC_AGENTS_METRICS_PORT: String(port), ELECTRIC_AGENTS_HOST: '127.0.0.1' } })
})
afterAll(async () => await wire.stop())

const scrape = async (): Promise<string> => await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
const seriesIn = (text: string, series: string): number =>
  Number(
    text
      .split('\n')
      .find((line) => line.startsWith(`${series} `))
      ?.split(' ')
      .at(-1),
  )

describe('the metrics', () => {
  it('count requests by route template, batches, starts and answers, and name nobody', async () => {
    await wire.spawned('/chat/secret-name')
    expectStatus(200, await wire.send('/chat/secret-name', { payload: 'x' }))
    await wire.kill('/chat/secret-name')
    expect((await wire.ask('GET', '/some/stream')).status).toBe(404)

    const entity = 'route="/_electric/entities/:type/:instanceId"'
    const text = await eventually(async () => {
      const scraped = await scrape()
      return seriesIn(scraped, 'agents_http_request_duration_seconds_count{method="GET",route="*",status="404"}') === 1 && scraped
    })
    expect(seriesIn(text, `agents_http_request_duration_seconds_count{method="PUT",${entity},status="201"}`)).toBe(1)
    expect(seriesIn(text, 'agents_batch_items_count{kind="append"}')).toBe(1)
    for (const kind of ['spawn', 'close']) {
      expect(seriesIn(text, `agents_batch_items_sum{kind="${kind}"}`)).toBe(1)
      expect(seriesIn(text, `agents_operation_answers_total{kind="${kind}",by="here"}`)).toBe(1)
      expect(text).toMatch(new RegExp(`agents_operation_starts_total\\{kind="${kind}",eager="(true|false)"\\} 1`))
    }
    expect(seriesIn(text, 'agents_workflow_service_up')).toBe(1)
    expect(seriesIn(text, 'agents_append_intents')).toBe(0)
    expect(text).not.toContain('secret-name')
  })

  it.each([
    ['a held read', 'long-poll', 499],
    ['a live read', 'sse', 200],
  ])('count %s that its client leaves', async (_, live, status) => {
    await wire.spawned(`/chat/${live}`)
    const url = `${wire.url}/chat/${live}/main?offset=now&live=${live}`
    const series = `agents_http_request_duration_seconds_count{method="GET",route="*",status="${status}"}`

    await eventually(async () => {
      const read = fetch(url, { signal: AbortSignal.timeout(200) }).then(async (response) => await response.text())
      await expect(read).rejects.toThrow()
      return seriesIn(await scrape(), series) >= 1
    })
  })

  it('are those that are documented, each with its help', async () => {
    const text = await scrape()

    for (const [name, { help }] of Object.entries(metricDefinitions)) expect(text).toContain(`# HELP ${name} ${help}`)
  })

  it('have a port of their own, with nothing else on it', async () => {
    expect((await fetch(`http://127.0.0.1:${port}/_electric/entities`)).status).toBe(404)
    expect((await wire.ask('GET', '/metrics')).status).toBe(404)
  })
})
