/**
 * What the server counts, for Prometheus, on a port of its own (`ELECTRIC_AGENTS_METRICS_PORT`; unset: nothing is counted).
 *
 * Labels are bounded: route templates, kinds, statuses; never URLs, ids or principals. docs/metrics.md is generated from `metricDefinitions`.
 */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import type { DeliveryObserver } from './dispatch/deliveries.js'
import type { BatchObserver } from './domain/group-commit.js'
import type { OperationsObserver } from './entities/operations.js'
import type { ObserveRequest } from './http/parts.js'

const durations = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]
const sizes = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]

interface MetricDefinition {
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly labels: readonly string[]
  readonly help: string
}

export const metricDefinitions = {
  agents_http_request_duration_seconds: {
    type: 'histogram',
    labels: ['method', 'route', 'status'],
    help: 'From the arrival of a request to the end of its answer, by route template. Held reads last as long as they are held. Status 499: its client left before the answer began.',
  },
  agents_batch_items: { type: 'histogram', labels: ['kind'], help: 'Items of a group commit: spawns, closes, appends.' },
  agents_batch_wait_seconds: { type: 'histogram', labels: ['kind'], help: 'How long the first item of a batch waited for it.' },
  agents_operation_starts_total: {
    type: 'counter',
    labels: ['kind', 'eager'],
    help: 'Workflows started by group commit, and whether their first task ran in this process at once.',
  },
  agents_operation_answers_total: {
    type: 'counter',
    labels: ['kind', 'by'],
    help: 'How batches were answered: by this process (`here`), or by the result of a workflow that ran elsewhere (`result`).',
  },
  agents_workflow_service_up: {
    type: 'gauge',
    labels: [],
    help: '0 while spawns and closes are refused because Temporal does not answer.',
  },
  agents_delivery_seconds: {
    type: 'histogram',
    labels: ['outcome'],
    help: 'One attempt to deliver a wake: `delivered`, `done` (answered at once), `announced` (to a wake stream), `failed`, `dead` (given up), `superseded`.',
  },
  agents_wakes: {
    type: 'gauge',
    labels: ['state'],
    help: 'Wakes in flight (all replicas): `waiting` for their first delivery or announced, `failing`, `claimed`.',
  },
  agents_dead_letters: { type: 'gauge', labels: [], help: 'Wakes that were given up and wait for an operator (all replicas).' },
  agents_append_intents: { type: 'gauge', labels: [], help: 'Appends to a foreign stream server that are not finished (all replicas).' },
  agents_attachment_claims: { type: 'gauge', labels: [], help: 'Attachments that are being stored or removed (all replicas).' },
} as const satisfies Record<string, MetricDefinition>

type Name = keyof typeof metricDefinitions

/** Read from the database when somebody asks. */
export interface Backlog {
  readonly appendIntents: number
  readonly attachmentClaims: number
  readonly wakes: Readonly<Record<'waiting' | 'failing' | 'claimed', number>>
  readonly deadLetters: number
}

export class Metrics {
  readonly #registry = new Registry()
  readonly #requests = this.#histogram('agents_http_request_duration_seconds', durations)
  readonly #batchItems = this.#histogram('agents_batch_items', sizes)
  readonly #batchWaits = this.#histogram('agents_batch_wait_seconds', durations)
  readonly #starts = this.#counter('agents_operation_starts_total')
  readonly #answers = this.#counter('agents_operation_answers_total')
  readonly #serviceUp = this.#gauge('agents_workflow_service_up')
  readonly #deliveries = this.#histogram('agents_delivery_seconds', durations)
  readonly #wakes = this.#gauge('agents_wakes')
  readonly #deadLetters = this.#gauge('agents_dead_letters')
  readonly #intents = this.#gauge('agents_append_intents')
  readonly #claims = this.#gauge('agents_attachment_claims')
  #backlog: (() => Promise<Backlog>) | undefined

  constructor() {
    collectDefaultMetrics({ register: this.#registry })
    this.#serviceUp.set(1)
  }

  readonly observeRequest: ObserveRequest = ({ method, route, status, seconds }) => {
    this.#requests.observe({ method, route, status: String(status) }, seconds)
  }

  batches(kind: 'append' | 'spawn' | 'close' | 'fork'): BatchObserver {
    return ({ items, waitedMs }) => {
      this.#batchItems.observe({ kind }, items)
      this.#batchWaits.observe({ kind }, waitedMs / 1_000)
    }
  }

  operations(kind: 'spawn' | 'close' | 'fork'): OperationsObserver {
    return {
      batch: this.batches(kind),
      started: (eagerly) => this.#starts.inc({ kind, eager: String(eagerly) }),
      answered: (by) => this.#answers.inc({ kind, by }),
    }
  }

  readonly delivery: DeliveryObserver = ({ outcome, seconds }) => {
    this.#deliveries.observe({ outcome }, seconds)
  }

  workflowServiceIs(state: 'up' | 'down'): void {
    this.#serviceUp.set(state === 'up' ? 1 : 0)
  }

  readBacklogFrom(read: () => Promise<Backlog>): void {
    this.#backlog = read
  }

  /** In the text format of Prometheus. While Postgres does not answer what is read from it is left out: it is not known, and the rest is wanted most then. */
  async text(): Promise<string> {
    this.#show(await this.#backlog?.().catch(() => undefined))
    return await this.#registry.metrics()
  }

  #show(backlog: Backlog | undefined): void {
    if (backlog === undefined) {
      this.#wakes.reset()
      for (const gauge of [this.#intents, this.#claims, this.#deadLetters]) gauge.remove()
      return
    }
    this.#intents.set(backlog.appendIntents)
    this.#claims.set(backlog.attachmentClaims)
    this.#deadLetters.set(backlog.deadLetters)
    for (const [state, wakes] of Object.entries(backlog.wakes)) this.#wakes.set({ state }, wakes)
  }

  /** Serves `GET /metrics`; everything else is 404. */
  async listen(host: string, port: number): Promise<MetricsServer> {
    const server = createServer((request, response) => {
      if (request.url?.split('?', 1)[0] !== '/metrics') {
        response.writeHead(404).end()
        return
      }
      this.text().then(
        (text) => response.writeHead(200, { 'content-type': this.#registry.contentType }).end(text),
        () => response.writeHead(500).end(),
      )
    })
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, host, resolve))
    return new MetricsServer(server)
  }

  #histogram(name: Name, buckets: readonly number[]): Histogram {
    const { help, labels } = metricDefinitions[name]
    return new Histogram({ name, help, labelNames: labels, buckets: [...buckets], registers: [this.#registry] })
  }

  #counter(name: Name): Counter {
    const { help, labels } = metricDefinitions[name]
    return new Counter({ name, help, labelNames: labels, registers: [this.#registry] })
  }

  #gauge(name: Name): Gauge {
    const { help, labels } = metricDefinitions[name]
    return new Gauge({ name, help, labelNames: labels, registers: [this.#registry] })
  }
}

export class MetricsServer {
  readonly #server: Server

  constructor(server: Server) {
    this.#server = server
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port // it listens on a port
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise<void>((resolve) => this.#server.close(() => resolve()))
  }
}
