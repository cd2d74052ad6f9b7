/** URLs that are handed out: the public base URL of the server with a path behind it (spec/06 §2). */
import type { Database } from '../registry/database.js'
import { readSetting, writeSetting } from '../registry/settings.js'

/** `base` may carry a path prefix and a query; both stay, and so does every letter of `path`. */
export function publicUrl(base: string, path: string): string {
  const [place = '', query] = base.split(/\?(.*)/s, 2)
  return `${place.replace(/\/+$/, '')}${path}${query === undefined ? '' : `?${query}`}`
}

/** The base URL as the servers of this tenant say it: a worker, which listens nowhere, reads it from the registry. */
export class PublicBase {
  readonly #database: Database
  readonly #configured: string | undefined
  #own: string | null = null

  constructor(database: Database, configured: string | undefined) {
    this.#database = database
    this.#configured = configured
  }

  /** A server listens at `url`. */
  async isOwn(url: string): Promise<void> {
    this.#own = this.#configured ?? url
    await writeSetting(this.#database, 'public-url', this.#own)
  }

  async read(): Promise<string> {
    const base = this.#configured ?? this.#own ?? (await readSetting(this.#database, 'public-url'))
    if (base === null) throw new Error('no server has said its public URL yet')
    return base
  }
}
