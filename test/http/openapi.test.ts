import { readFile } from 'node:fs/promises'
import { Validator } from '@seriousme/openapi-schema-validator'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { errorEntries } from '../../src/domain/errors.js'
import { defaultLimits } from '../../src/domain/limits.js'
import { buildApp } from '../../src/http/app.js'
import type { Parts } from '../../src/http/parts.js'
import { createLog } from '../../src/log.js'
import { Wire } from '../support/wire.js'

interface Operation {
  readonly operationId: string
  readonly responses: Readonly<
    Record<string, { readonly description: string; readonly content?: Readonly<Record<string, { schema: object }>> }>
  >
}

interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly components: object
}

const checkedIn = async (): Promise<Document> => JSON.parse(await readFile('docs/openapi.json', 'utf8'))

describe('the OpenAPI document', () => {
  it('is valid OpenAPI 3.1', async () => {
    expect(await new Validator().validate(JSON.parse(await readFile('docs/openapi.json', 'utf8')))).toMatchObject({ valid: true })
  })

  it('has every route of the server, or a reason why it is left out', async () => {
    const app = await buildApp({ limits: defaultLimits, logger: createLog({ level: 'silent' }) } as unknown as Parts) // no route is asked
    await app.ready()

    expect(app.openApi().missing).toEqual([])
    await app.close()
  })

  it('names each operation once', async () => {
    const ids = Object.values((await checkedIn()).paths).flatMap((item) =>
      Object.values(item).flatMap(({ operationId }) => operationId ?? []),
    )
    expect(new Set(ids).size).toBe(ids.length)
  })

  it('says for each refusal of the house which codes it has', async () => {
    const codes = new Set(Object.entries(errorEntries).map(([name, entry]) => ('code' in entry ? entry.code : name)))
    const spawn = (await checkedIn()).paths['/_electric/entities/{type}/{instanceId}']?.put?.responses ?? {}

    const told = Object.values(spawn).flatMap(({ description }) => [...description.matchAll(/^- `(\w+)`/gm)].map(([, code]) => code))
    expect(told).toEqual(expect.arrayContaining(['DUPLICATE_URL', 'UNAUTHORIZED', 'WORKFLOW_SERVICE_UNAVAILABLE']))
    expect(told.filter((code) => !codes.has(code ?? ''))).toEqual([])
  })
})

describe('what the server answers', () => {
  let wire: Wire
  let document: Document
  beforeAll(async () => {
    wire = await Wire.start()
    document = await checkedIn()
  })
  afterAll(async () => await wire.stop())

  /** Violations of the documented schema of this answer; the schema must be there. */
  function violations(method: string, path: string, { status, body }: { readonly status: number; readonly body: unknown }): unknown {
    const schema = document.paths[path]?.[method]?.responses[status]?.content?.['application/json']?.schema
    if (schema === undefined) throw new Error(`${method} ${path} documents no answer ${status}`)
    const ajv = new Ajv2020({ strict: false, validateFormats: false })
    const validate = ajv.compile({ ...schema, components: document.components })
    return validate(body) ? [] : validate.errors
  }

  it('is the document itself, to everybody', async () => {
    const answer = await wire.ask('GET', '/_electric/openapi.json', undefined, { as: 'nonsense' })

    expect(answer.status).toBe(200)
    expect(answer.body).toEqual(document)
  })

  it('is what the document says', async () => {
    const entity = '/_electric/entities/{type}/{instanceId}'
    const runners = '/_electric/runners'
    const beat = { wake_stream_offset: '-1', diagnostics: { status: 'streaming', last_error: null, reconnect_count: 0 } }
    const comments = { type: 'note', operations: ['insert'] }
    const registered = await wire.register('documented', { externally_writable_collections: { notes: comments } })
    const spawned = await wire.spawn('/documented/a', { tags: { a: '1' }, args: { x: 1 }, sandbox: {}, initialMessage: 'hello' })
    const at = (below: string) => `/_electric/entities/documented/a${below}`
    const answers: readonly (readonly [string, string, { readonly status: number; readonly body: unknown }])[] = [
      ['post', '/_electric/entity-types', registered],
      ['get', '/_electric/entity-types', await wire.ask('GET', '/_electric/entity-types')],
      ['get', '/_electric/entity-types/{name}', await wire.ask('GET', '/_electric/entity-types/documented')],
      [
        'patch',
        '/_electric/entity-types/{name}/schemas',
        await wire.ask('PATCH', '/_electric/entity-types/documented/schemas', { state_schemas: { x: {} } }),
      ],
      ['get', '/_electric/entity-types/{name}', await wire.ask('GET', '/_electric/entity-types/none')],
      ['put', entity, spawned],
      ['put', entity, await wire.spawn('/documented/b')],
      ['put', entity, await wire.spawn('/documented/b')],
      ['get', entity, await wire.get('/documented/a')],
      ['get', '/_electric/entities', await wire.ask('GET', '/_electric/entities')],
      ['post', `${entity}/tags/{tagKey}`, await wire.ask('POST', at('/tags/b'), { value: '2' })],
      ['delete', `${entity}/tags/{tagKey}`, await wire.ask('DELETE', at('/tags/none'))],
      ['post', `${entity}/send`, await wire.send('/documented/a', { payload: 1, key: 'k' })],
      ['post', `${entity}/send`, await wire.send('/documented/a', {})],
      ['patch', `${entity}/inbox/{messageKey}`, await wire.ask('PATCH', at('/inbox/k'), { position: 'a' })],
      ['delete', `${entity}/inbox/{messageKey}`, await wire.ask('DELETE', at('/inbox/k'))],
      ['post', `${entity}/collections/{collection}`, await wire.ask('POST', at('/collections/notes'), { operation: 'insert', value: {} })],
      ['post', `${entity}/signal`, await wire.signal('/documented/a', { signal: 'SIGSTOP' })],
      ['delete', entity, await wire.kill('/documented/a')],
      ['delete', entity, await wire.kill('/documented/a')],
      ['get', '/_electric/health', await wire.ask('GET', '/_electric/health')],
      ['post', runners, await wire.ask('POST', runners, { id: 'r1', label: 'L', sandbox_profiles: [{ name: 'p', label: 'P' }] })],
      ['post', runners, await wire.ask('POST', runners, { id: 'a:b', label: 'L' })],
      ['get', runners, await wire.ask('GET', runners)],
      ['get', `${runners}/{id}`, await wire.ask('GET', `${runners}/r1`)],
      ['get', `${runners}/{id}`, await wire.ask('GET', `${runners}/none`)],
      ['get', `${runners}/{id}/health`, await wire.ask('GET', `${runners}/r1/health`)],
      ['post', `${runners}/{id}/heartbeat`, await wire.ask('POST', `${runners}/r1/heartbeat`, beat)],
      ['get', `${runners}/{id}/health`, await wire.ask('GET', `${runners}/r1/health`)],
      ['post', `${runners}/{id}/disable`, await wire.ask('POST', `${runners}/r1/disable`)],
      ['post', `${runners}/{id}/enable`, await wire.ask('POST', `${runners}/r1/enable`, undefined, { as: 'user:kim' })],
    ]

    for (const [method, path, answer] of answers)
      expect([method, path, answer.status, answer.body, violations(method, path, answer)]).toEqual([
        method,
        path,
        answer.status,
        answer.body,
        [],
      ])
  })
})
