import type { StreamPath } from '../../src/domain/ids.js'
import { defaultLimits } from '../../src/domain/limits.js'
import { Directory } from '../../src/entities/directory.js'
import { SharedStateAccess } from '../../src/entities/shared-state-access.js'
import { StreamAccess } from '../../src/entities/stream-access.js'
import { upsertRunner } from '../../src/registry/runners.js'
import { givenEntity, principal } from '../http/support/registry-server.js'
import { type FreshDatabase, freshDatabase } from '../support/postgres.js'

let fresh: FreshDatabase
let access: StreamAccess

beforeAll(async () => {
  fresh = await freshDatabase()
  const directory = new Directory(fresh.database, defaultLimits)
  access = new StreamAccess(directory, new SharedStateAccess(fresh.database, directory), {
    isShown: async (_url, path) => !path.endsWith('/unfinished'),
  })
  await givenEntity(fresh.database, '/chat/a')
  await givenEntity(fresh.database, '/chat/a%20b')
  await givenEntity(fresh.database, '/principal/user%3Asam')
})
afterAll(async () => await fresh.drop())

/** `passes`, or the refusal as `<status> <code> <message>`. */
async function answer(method: string, path: string, as = 'user:sam', forkedFrom?: string): Promise<string> {
  const request = { principal: principal(as), method, path: path as StreamPath, ...(forkedFrom === undefined ? {} : { forkedFrom }) }
  try {
    await access.check(request)
    return 'passes'
  } catch (failure) {
    const { refusal } = failure as { refusal: { status: number; code: string; message: string } }
    return `${refusal.status} ${refusal.code} ${refusal.message}`
  }
}

const disguised = '400 INVALID_REQUEST Stream paths must be sent in their plain form'

describe('the main stream of an entity', () => {
  it.each(['GET', 'HEAD'])('is read by %s with the permission read', async (method) => {
    expect(await answer(method, '/chat/a/main')).toBe('passes')
    expect(await answer(method, '/chat/a/main', 'system:dev-local')).toBe('passes')
    expect(await answer(method, '/chat/a/main', 'user:kim')).toBe('401 UNAUTHORIZED Principal is not allowed to read /chat/a')
  })

  it('of an entity that does not exist is the stream layer’s to miss', async () => {
    expect(await answer('GET', '/chat/none/main', 'user:kim')).toBe('passes')
  })

  it('leaves appends to their write token, whoever asks', async () => {
    expect(await answer('POST', '/chat/a/main', 'user:kim')).toBe('passes')
  })

  it('may be asked for by PUT when the entity exists, and never be made by it (required of us)', async () => {
    expect(await answer('PUT', '/chat/a/main', 'user:kim')).toBe('passes')
    expect(await answer('PUT', '/chat/none/main', 'system:framework')).toBe(
      '401 UNAUTHORIZED Principal is not allowed to write /chat/none/main',
    )
  })

  it.each(['DELETE', 'PATCH'])('is nobody’s to %s (required of us)', async (method) => {
    expect(await answer(method, '/chat/a/main', 'system:framework')).toBe('401 UNAUTHORIZED Principal is not allowed to write /chat/a/main')
  })

  it('keeps its percent-encoding', async () => {
    expect(await answer('GET', '/chat/a%20b/main')).toBe('passes')
    expect(await answer('GET', '/principal/user%3Asam/main')).toBe('passes')
  })
})

describe('an attachment stream', () => {
  it('is read with read on its entity', async () => {
    expect(await answer('GET', '/chat/a/attachments/x')).toBe('passes')
    expect(await answer('GET', '/chat/a/attachments/x', 'user:kim')).toBe('401 UNAUTHORIZED Principal is not allowed to read /chat/a')
    expect(await answer('GET', '/chat/a/attachments/unfinished')).toBe('404 NOT_FOUND Attachment not found')
    expect(await answer('HEAD', '/chat/none/attachments/x')).toBe('404 NOT_FOUND Entity not found')
  })

  it.each(['POST', 'PUT', 'DELETE'])('is nobody’s to %s (required of us)', async (method) => {
    expect(await answer(method, '/chat/a/attachments/x', 'system:framework')).toBe('401 UNAUTHORIZED Invalid write token')
  })
})

describe('a stream of the server', () => {
  it.each(['/_cron/eyJ9', '/_entities/0123', '/_webhooks/hook/bucket'])(
    '%s is read by anybody and written by nobody (required of us)',
    async (path) => {
      expect(await answer('GET', path)).toBe('passes')
      for (const method of ['PUT', 'POST', 'DELETE']) {
        expect(await answer(method, path, 'system:framework')).toBe(`401 UNAUTHORIZED Principal is not allowed to write ${path}`)
      }
    },
  )

  it('for the wakes of a runner is its owner’s to read and nobody’s to write; where no runner is, the stream layer misses it', async () => {
    await fresh.database.transaction((tx) =>
      upsertRunner(tx, {
        id: 'r1',
        owner_principal: principal('user:sam').url,
        label: 'L',
        kind: 'local',
        admin_status: 'enabled',
        wake_stream: '/wakes/r1' as StreamPath,
      }),
    )
    for (const path of ['/runners/r1/wake', '/runners/%721/wake', '/wakes/r1']) {
      expect(await answer('GET', path)).toBe('passes')
      for (const other of ['user:kim', 'system:framework'])
        expect(await answer('HEAD', path, other)).toBe('403 UNAUTHORIZED Runner access requires the authenticated owner')
      for (const method of ['PUT', 'POST', 'DELETE'])
        expect(await answer(method, path)).toBe(`401 UNAUTHORIZED Principal is not allowed to write ${path}`)
    }
    expect(await answer('GET', '/wakes/%721')).toBe(disguised)
    expect(await answer('GET', '/runners/none/wake', 'user:kim')).toBe('passes')
    expect(await answer('POST', '/runners/none/wake')).toBe('401 UNAUTHORIZED Principal is not allowed to write /runners/none/wake')
  })

  it('Postgres observation comes later', async () => {
    expect(await answer('GET', '/_electric/pg-sync/x')).toBe('501 NOT_IMPLEMENTED Not implemented yet: Postgres observation')
  })

  it.each(['/__ds/subscriptions/x', '/v1/stream/__ds/jwks.json', '/v1/stream/__ds'])('%s is the subscription API’s', async (path) => {
    expect(await answer('PUT', path, 'system:framework')).toBe('404 NOT_FOUND No stream lives at this path')
  })

  it.each(['/%5F_ds/x', '/v1/stream/_%5fds/x', '/v1//stream/__ds/x'])('%s is no disguise of it', async (path) => {
    expect(await answer('PUT', path, 'system:framework')).toBe(disguised)
  })
})

describe('a fork from', () => {
  it('an entity’s stream needs read on it (required of us)', async () => {
    expect(await answer('PUT', '/copy', 'user:sam', '/chat/a/main')).toBe('passes')
    for (const source of [
      '/chat/a/main',
      'http://elsewhere.example/chat/a/main',
      'chat/a/main',
      '/chat/a/main?x=1',
      '/chat/a/attachments/x',
    ])
      expect(await answer('PUT', '/copy', 'user:kim', source)).toBe('401 UNAUTHORIZED Principal is not allowed to read /chat/a')
  })

  it('shared state needs read on an entity that is linked to it', async () => {
    expect(await answer('PUT', '/copy', 'user:kim', '/_electric/shared-state/x')).toBe(
      '401 UNAUTHORIZED Principal is not allowed to read shared state',
    )
  })

  it('a disguised path is refused', async () => {
    expect(await answer('PUT', '/copy', 'user:kim', '/ch%61t/a/main')).toBe(disguised)
  })

  it('a plain stream is free', async () => {
    expect(await answer('PUT', '/copy', 'user:kim', '/plain')).toBe('passes')
  })
})

describe('a plain stream', () => {
  it.each(['PUT', 'POST', 'GET', 'HEAD', 'DELETE'])('is everybody’s to %s', async (method) => {
    expect(await answer(method, '/plain-stream-x', 'user:kim')).toBe('passes')
    expect(await answer(method, '/v1/stream/some%20thing', 'user:kim')).toBe('passes')
    expect(await answer(method, '/chat/a/main/below', 'user:kim')).toBe('passes')
  })
})

describe('a path that only looks different from a guarded one (required of us)', () => {
  it.each([
    '/ch%61t/a/main',
    '/chat/%61/main',
    '/chat//a/main',
    '//chat/a/main',
    '/chat/a/main/',
    '/chat%2Fa/main',
    '/chat%252Fa%252Fmain',
    '/chat/a/%6dain',
    '/chat/a/attachments%2Fx',
    '/%5Fcron/x',
    '//_electric/shared-state/x',
    '/_electric%2Fshared-state%2Fx',
    '/x/%2e%2e/chat/a/main',
    '/_%5fds/subscriptions/x',
    '/runners/r1/%77ake',
    '\\chat\\a\\main',
  ])('%s is refused for every method', async (path) => {
    for (const method of ['GET', 'PUT', 'POST', 'DELETE']) expect(await answer(method, path, 'system:framework')).toBe(disguised)
  })
})
