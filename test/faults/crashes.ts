/** Crashes: a house under load, a part of it dies at a chosen point, comes back, and everything is looked at. */
import { Client, Connection } from '@temporalio/client'
import type { HouseOptions, PartId } from '../support/house.js'
import { Wire } from '../support/wire.js'
import { type Point, Seam } from './arming.js'
import { type Counts, type Judgement, judgeRequests, settled } from './findings.js'
import { Load, type LoadOptions, type Request } from './ledger.js'

/** How soon nothing half-done may be left: a lost workflow task (5 s), a lapsed intent and the next sweep (10 s), a busy machine. */
const settleLimitMs = 45_000

export interface LaneOptions extends HouseOptions {
  /** Which process dies; default the server. */
  readonly victim?: PartId
}

/** A load that was started; what is asked in it is its own affair. */
export interface Loading<Asked> {
  /** Waits until no caller goes on. */
  ended(): Promise<readonly Asked[]>
  /** All of the load, when every caller has its last answer. */
  stop(): Promise<readonly Asked[]>
}
export type StartLoad<Asked> = (options: LoadOptions) => Loading<Asked>
export type Judge<Asked> = (wire: Wire, asked: readonly Asked[]) => Promise<Judgement>

/** One house in which crashes follow each other. */
export class Lane {
  readonly wire: Wire
  readonly seam: Seam
  readonly #connection: Connection
  readonly #victim: PartId

  private constructor(wire: Wire, seam: Seam, connection: Connection, victim: PartId) {
    this.wire = wire
    this.seam = seam
    this.#connection = connection
    this.#victim = victim
  }

  static async start({ victim = 'server', ...options }: LaneOptions): Promise<Lane> {
    const seam = await Seam.make()
    const unharmed = { NODE_OPTIONS: undefined, FAULTS_ARMED: undefined }
    const wire = await Wire.start({
      replicas: 1,
      ...options,
      env: { ...seam.env, ELECTRIC_AGENTS_APPEND_INTENT_OWNED_MS: '3000', ...options.env },
      ...(victim === 'worker' ? { serverEnv: () => unharmed } : {}),
    })
    return new Lane(wire, seam, await Connection.connect({ address: wire.house.temporalAddress }), victim)
  }

  get temporal(): Client {
    return new Client({ connection: this.#connection, namespace: this.wire.house.namespace })
  }

  /** Load until the victim dies of `point`; it is started again. Returns what was asked meanwhile. */
  crash(point: Point): Promise<readonly Request[]>
  crash<Asked>(point: Point, start: StartLoad<Asked>): Promise<readonly Asked[]>
  async crash(point: Point, start: StartLoad<unknown> = Load.start): Promise<readonly unknown[]> {
    const { house } = this.wire
    this.seam.arm(point)
    const load = start({ urls: house.urls, name: nameOf(point), onLost: 'stops' })
    try {
      await this.seam.fired(point)
      await house.kill(this.#victim) // dead already: returns when the process is gone
      if (this.#victim === 'server') await load.ended()
    } finally {
      await house.restart(this.#victim)
    }
    return await load.stop()
  }

  /** Waits until nothing is under way, and says what is wrong. */
  judge(requests: readonly Request[]): Promise<Judgement>
  judge<Asked>(asked: readonly Asked[], judge: Judge<Asked>): Promise<Judgement>
  async judge(asked: readonly never[], judge: Judge<never> = judgeRequests): Promise<Judgement> {
    await settled(this.wire, this.temporal, settleLimitMs)
    return await judge(this.wire, asked)
  }

  async stop(): Promise<void> {
    await this.#connection.close()
    await this.wire.stop()
    await this.seam.remove()
  }
}

const nameOf = ({ name }: Point): string => name.replaceAll(/[^a-z0-9]+/gi, '-')

/** Several houses side by side: crashes wait for processes to start and deadlines to pass, seldom for the processor. */
export class Lanes {
  readonly #lanes: readonly Lane[]
  readonly #free: Lane[]
  readonly #waiting: ((lane: Lane) => void)[] = []

  private constructor(lanes: readonly Lane[]) {
    this.#lanes = lanes
    this.#free = [...lanes]
  }

  static async start(count: number, options: LaneOptions): Promise<Lanes> {
    return new Lanes(await Promise.all(Array.from({ length: count }, async () => await Lane.start(options))))
  }

  /** Does something with every house before the first is used. */
  async each<Result>(work: (lane: Lane) => Promise<Result>): Promise<ReadonlyMap<Lane, Result>> {
    return new Map(await Promise.all(this.#lanes.map(async (lane) => [lane, await work(lane)] as const)))
  }

  async use<Result>(work: (lane: Lane) => Promise<Result>): Promise<Result> {
    const lane = this.#free.pop() ?? (await new Promise<Lane>((resolve) => this.#waiting.push(resolve)))
    try {
      return await lane.wire.house.explaining(async () => await work(lane))
    } finally {
      const next = this.#waiting.shift()
      if (next === undefined) this.#free.push(lane)
      else next(lane)
    }
  }

  async stop(): Promise<void> {
    await Promise.all(this.#lanes.map(async (lane) => await lane.stop()))
  }
}

/** What happened at each point, printed when all are through. */
export class CountTable {
  readonly #title: string
  readonly #rows: (readonly [string, Counts])[] = []

  constructor(title: string) {
    this.#title = title
  }

  add(point: string, counts: Counts): void {
    this.#rows.push([point, counts])
  }

  print(): void {
    const width = Math.max(...this.#rows.map(([point]) => point.length), this.#title.length)
    const line = (point: string, ...cells: readonly (string | number)[]) =>
      `${point.padEnd(width)} ${cells.map((cell) => String(cell).padStart(14)).join('')}\n`
    const rows = this.#rows.map(([point, counts]) =>
      line(point, counts.acknowledged, counts.unacknowledgedComplete, counts.unacknowledgedAbsent),
    )
    process.stdout.write(`${line(this.#title, 'acknowledged', 'not: complete', 'not: absent')}${rows.join('')}`)
  }
}
