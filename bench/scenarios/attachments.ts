/** Attachments beside raw HTTP of the same size: an upload that is only read, a download of bytes that are only sent. */
import type { HttpLoad, Numbers } from '../measure.js'
import { type Bench, inTurn, type Line, type Scenario } from '../scenario.js'
import { entitiesOf } from './requests.js'

const type = 'bench-attachment'
const kibibytes = 1_024
const keys = 64
const callers = [1, 16] as const
const boundary = 'bench-boundary'
export const multipart = `multipart/form-data; boundary=${boundary}`

/** A form as browsers send it, with a file of 1 MiB. */
export function formOf(fields: Readonly<Record<string, string>>): string {
  const parts = Object.entries(fields).map(
    ([name, value]) => `--${boundary}\r\ncontent-disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`,
  )
  const head = `--${boundary}\r\ncontent-disposition: form-data; name="file"; filename="a.bin"\r\ncontent-type: application/octet-stream\r\n\r\n`
  return `${parts.join('')}${head}${'x'.repeat(kibibytes * 1_024)}\r\n--${boundary}--\r\n`
}

const subject = { subjectType: 'inbox', subjectKey: 'm1' }

async function oneEach({ parts }: Bench): Promise<void> {
  for (let key = 0; key < keys; key += 1) {
    const response = await fetch(`${parts.url}/_electric/entities/${type}/e${key}/attachments`, {
      method: 'POST',
      headers: { 'content-type': multipart },
      body: formOf({ ...subject, id: 'kept' }),
    })
    if (!response.ok) throw new Error(`an upload answered ${response.status} ${await response.text()}`)
  }
}

export const attachment: Scenario = async (bench) => {
  const { generator, url, shellUrl } = bench.parts
  await entitiesOf(bench, type)
  await oneEach(bench)
  const form = formOf(subject)
  const loads = {
    upload: {
      is: 'http',
      method: 'POST',
      keys,
      origin: url,
      path: `/_electric/entities/${type}/e{k}/attachments`,
      body: form,
      contentType: multipart,
    },
    'raw upload': { is: 'http', method: 'POST', origin: shellUrl, path: '/_electric/bench/bytes', body: form, contentType: multipart },
    download: { is: 'http', method: 'GET', keys, origin: url, path: `/_electric/entities/${type}/e{k}/attachments/kept` },
    'raw download': { is: 'http', method: 'GET', origin: shellUrl, path: '/_electric/bench/bytes' },
  } as const satisfies Record<string, HttpLoad>
  const names = Object.keys(loads) as (keyof typeof loads)[] // its own keys
  const measurements = names.flatMap((name) =>
    callers.map((count) => [`${name} ${count}`, () => generator.run({ load: loads[name], callers: count, forMs: bench.roundMs })] as const),
  )
  const numbers = await inTurn(bench, Object.fromEntries(measurements))
  const of = (name: string): Numbers => numbers[name] as Numbers // every name was measured
  const lines = (['upload', 'download'] as const).flatMap((what) =>
    callers.map(
      (count): Line => ({
        what: `${what} of ${kibibytes / 1_024} MiB; floor: raw HTTP of the same size, nothing stored`,
        callers: count,
        numbers: of(`${what} ${count}`),
        floor: of(`raw ${what} ${count}`),
      }),
    ),
  )
  const errors = lines.reduce((sum, line) => sum + line.numbers.errors, 0)
  return { name: 'attachment', lines, aims: [{ what: 'errors', bound: { atMost: 0 }, measured: errors }] }
}
