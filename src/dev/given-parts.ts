/** Parts that somebody else runs, given by URL: looked at once, so that a wrong address is said in one line before anything starts. */
import pg from 'pg'
import { shownUrl, type TemporalConfiguration } from '../config.js'
import { never, type Part, PartFailure, type PartName } from './part.js'
import { whyNot } from './temporal-server.js'

const lookLimitMs = 5_000
const withoutStop = async (): Promise<void> => undefined

function given(name: PartName, address: string, shown: string): Part {
  return { name, address, shown, broken: never, stop: withoutStop }
}

const reasonOf = (failure: unknown): string => {
  if (failure instanceof AggregateError) return failure.errors.map(reasonOf).join(', ')
  return failure instanceof Error ? failure.message || failure.name : String(failure)
}

export async function givenPostgres(url: string): Promise<Part> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: lookLimitMs })
  client.on('error', () => undefined)
  try {
    await client.connect()
    await client.query('SELECT 1')
  } catch (failure) {
    throw new PartFailure(
      'Postgres',
      `${shownUrl(url)} cannot be used: ${reasonOf(failure)}`,
      'Start it or correct DATABASE_URL; unset it to use the embedded Postgres.',
    )
  } finally {
    await client.end().catch(() => undefined)
  }
  return given('Postgres', url, shownUrl(url))
}

export async function givenTemporal({ address, namespace, connection }: Omit<TemporalConfiguration, 'taskQueue'>): Promise<Part> {
  const { tls, apiKey, metadata } = connection
  const why = await whyNot(
    {
      address,
      ...(tls === undefined ? {} : { tls }),
      ...(apiKey === undefined ? {} : { apiKey }),
      ...(metadata === undefined ? {} : { metadata }),
    },
    [namespace],
  )
  if (why !== undefined) {
    throw new PartFailure(
      'Temporal',
      `${address}, namespace "${namespace}", cannot be used: ${why}`,
      'Start it or correct TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE; unset both to use the embedded dev server.',
    )
  }
  return given('Temporal', address, address)
}

export async function givenStreams(url: string): Promise<Part> {
  try {
    const response = await fetch(url, { method: 'HEAD', signal: AbortSignal.timeout(lookLimitMs) }) // any answer will do: there is no health route in the protocol
    await response.body?.cancel()
  } catch (failure) {
    const cause = failure instanceof Error && failure.cause !== undefined ? failure.cause : failure
    throw new PartFailure(
      'streams',
      `${shownUrl(url)} does not answer: ${reasonOf(cause)}`,
      'Start it or correct DURABLE_STREAMS_URL; unset it to keep streams in Postgres.',
    )
  }
  return given('streams', url, shownUrl(url))
}
