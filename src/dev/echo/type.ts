/** The entity type `echo` in the registry, over the public wire (spec/02 §2, §5). */
import { z } from 'zod'

const typeForm = z.looseObject({
  default_dispatch_policy: z.looseObject({ targets: z.array(z.looseObject({ url: z.string().optional() })) }).nullish(),
})

const answerWithinMs = 10_000

export class EchoType {
  readonly name = 'echo'
  readonly #types: string

  constructor(serverUrl: string) {
    this.#types = `${serverUrl}/_electric/entity-types`
  }

  /** Where wakes of its entities go; null: nowhere; undefined: there is no such type. */
  async handler(): Promise<string | null | undefined> {
    const response = await ask('GET', `${this.#types}/${this.name}`)
    if (response.status === 404) return undefined
    return typeForm.parse(JSON.parse(await textOf(response))).default_dispatch_policy?.targets[0]?.url ?? null
  }

  async register(url: string): Promise<void> {
    const policy = { targets: [{ type: 'webhook', url, subscription_id: `webhook:${this.name}` }] }
    const type = { name: this.name, description: 'The demo agent: says what you said.', default_dispatch_policy: policy }
    await textOf(await ask('POST', this.#types, type))
  }

  async remove(): Promise<void> {
    await textOf(await ask('DELETE', `${this.#types}/${this.name}`))
  }
}

async function ask(method: string, url: string, body?: object): Promise<Response> {
  return await fetch(url, {
    method,
    ...(body === undefined ? {} : { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(answerWithinMs),
  })
}

/** Throws where the server refuses. */
async function textOf(response: Response): Promise<string> {
  const text = await response.text()
  if (!response.ok) throw new Error(`${response.status} ${text.slice(0, 300)}`)
  return text
}
