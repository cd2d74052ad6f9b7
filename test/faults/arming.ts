/** How a test tells a process with the seam (`seam.mjs`) where to die. */
import { existsSync, renameSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eventually } from '../support/eventually.js'

/** A place in the program, as the seam names it. */
export interface Point {
  /** What the test calls it. */
  readonly name: string
  /** Regular expression over the lines of `seam.mjs`. */
  readonly at: string
  /** How often it is passed unharmed, and once more. */
  readonly nth: number
}

export class Seam {
  readonly #folder: string

  private constructor(folder: string) {
    this.#folder = folder
  }

  static async make(): Promise<Seam> {
    return new Seam(await mkdtemp(join(tmpdir(), 'agents-seam-')))
  }

  /** For the processes that shall die. */
  get env(): Readonly<Record<string, string>> {
    return { NODE_OPTIONS: `--import ${new URL('./seam.mjs', import.meta.url).href}`, FAULTS_ARMED: this.#armed }
  }

  arm({ at, nth }: Point): void {
    writeFileSync(`${this.#armed}.new`, JSON.stringify({ at, nth }))
    renameSync(`${this.#armed}.new`, this.#armed) // nobody reads half of it
  }

  /** Returns when a process has died of the armed point. */
  async fired({ name }: Point, withinMs = 120_000): Promise<void> {
    await eventually(
      () => {
        if (existsSync(this.#armed)) throw new Error(`"${name}" was not reached`)
        return true
      },
      { withinMs },
    )
  }

  async remove(): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true })
  }

  get #armed(): string {
    return join(this.#folder, 'armed.json')
  }
}
