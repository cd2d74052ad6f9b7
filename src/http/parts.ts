/** What the routes need, and nothing else: `server.ts` builds it once, every route takes from it what it uses. */
import type { FastifyBaseLogger } from 'fastify'
import type { Claims } from '../dispatch/claims.js'
import type { DeadLetters } from '../dispatch/dead-letters.js'
import type { PublicBase } from '../dispatch/public-url.js'
import type { Signing } from '../dispatch/signing.js'
import type { Subscriptions } from '../dispatch/subscriptions.js'
import type { WakeTokens } from '../dispatch/wake-tokens.js'
import type { Limits } from '../domain/limits.js'
import type { Principal } from '../domain/principals.js'
import type { Attachments } from '../entities/attachments.js'
import type { CollectionWriting } from '../entities/collection-writing.js'
import type { Directory } from '../entities/directory.js'
import type { Forking } from '../entities/forking.js'
import type { InboxEditing } from '../entities/inbox-editing.js'
import type { RunnerClaiming } from '../entities/runner-claiming.js'
import type { Runners } from '../entities/runners.js'
import type { Sending } from '../entities/sending.js'
import type { Signalling } from '../entities/signalling.js'
import type { Spawning } from '../entities/spawning.js'
import type { StreamWriting } from '../entities/stream-writing.js'
import type { Tagging } from '../entities/tagging.js'
import type { EntityTypes } from '../entities/types.js'
import type { Database } from '../registry/database.js'
import type { StreamStore } from '../streams/store.js'
import type { Authentication } from './principals.js'

/** Entities of principals, made on demand (spec/12 §1.4). */
export interface PrincipalEntities {
  /** The entity of `principal`; created if it was never seen. Race-safe: the loser gets the winner's. */
  ensure(principal: Principal): Promise<unknown>
}

/** Told of every answer; `route` is a template, or empty where none matched. */
export type ObserveRequest = (request: {
  readonly method: string
  readonly route: string
  readonly status: number
  readonly seconds: number
}) => void

/** Claims and what is behind them. */
export interface DispatchParts {
  readonly claims: Claims
  readonly tokens: WakeTokens
  readonly subscriptions: Subscriptions
  readonly deadLetters: DeadLetters
  readonly base: PublicBase
  /** Whether a wake, in flight or past, has this id. */
  readonly isWake: (wakeId: string) => Promise<boolean>
}

export interface Parts {
  readonly limits: Limits
  readonly tenant: string
  readonly database: Database
  readonly directory: Directory
  readonly entityTypes: EntityTypes
  readonly principalEntities: PrincipalEntities
  readonly spawning: Spawning
  readonly sending: Sending
  readonly inboxEditing: InboxEditing
  readonly collections: CollectionWriting
  readonly tagging: Tagging
  readonly attachments: Attachments
  readonly signalling: Signalling
  readonly forking: Forking
  readonly runners: Runners
  readonly runnerClaiming: RunnerClaiming
  readonly dispatch: DispatchParts
  readonly streams: StreamStore
  readonly signing: Pick<Signing, 'jwks' | 'current'>
  readonly streamWriting: StreamWriting
  /** Public base URL without trailing slash; known once the server listens. */
  readonly publicUrl: (path: string) => string
  readonly authentication: Authentication
  readonly logger: FastifyBaseLogger
  readonly observeRequest?: ObserveRequest
  /** Folder of the built agent UI; absent: `AGENT_UI_NOT_FOUND`. */
  readonly agentUiFolder?: string
  /** True from the moment when the process was told to stop: the health route then answers 503 (spec/13 §9). */
  readonly isStopping: () => boolean
}
