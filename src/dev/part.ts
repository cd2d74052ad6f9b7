/** A part of the one-command environment: a child process with an address, or somebody else's server by URL. */
export interface Part {
  readonly name: PartName
  /** Where it answers; never with a password in what is printed (`shown`). */
  readonly address: string
  readonly shown: string
  /** Settles when the part is gone without having been asked to go. Never, for a part that somebody else runs. */
  readonly broken: Promise<PartFailure>
  stop(): Promise<void>
}

export type PartName = 'Postgres' | 'Temporal' | 'streams' | 'server' | 'worker' | 'data folder'

/** One line for the person at the terminal: which part, why, what to do. */
export class PartFailure extends Error {
  readonly part: PartName
  readonly advice: string

  constructor(part: PartName, why: string, advice: string) {
    super(why)
    this.name = 'PartFailure'
    this.part = part
    this.advice = advice
  }

  get line(): string {
    return `${this.part}: ${this.message.replaceAll(/\s*\n\s*/g, ' ')}. ${this.advice}`
  }
}

export const never: Promise<never> = new Promise(() => undefined)
