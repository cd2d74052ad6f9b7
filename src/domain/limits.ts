/** Every limit: name, unit, default, environment variable. docs/limits.md is generated from this table. */

export interface LimitDefinition {
  readonly default: number
  readonly unit: 'bytes' | 'ms' | 's' | 'items' | 'levels' | 'characters'
  readonly env: string
  readonly what: string
  /** A bad value counts as unset (spec/13 §3). */
  readonly lenient?: true
  /** Below it a promise would be broken. */
  readonly least?: number
  /** Beyond it a promise would be broken. */
  readonly most?: number
}

export const limitDefinitions = {
  maxJsonBodyBytes: {
    default: 10 * 1024 * 1024,
    unit: 'bytes',
    env: 'ELECTRIC_AGENTS_MAX_JSON_BODY_BYTES',
    what: 'Body of a JSON route; beyond it 413.',
  },
  maxStreamBodyBytes: {
    default: 64 * 1024 * 1024,
    unit: 'bytes',
    env: 'ELECTRIC_AGENTS_MAX_STREAM_BODY_BYTES',
    what: 'One append or first entry through the stream protocol; beyond it 413.',
  },
  maxJsonDepth: { default: 200, unit: 'levels', env: 'ELECTRIC_AGENTS_MAX_JSON_DEPTH', what: 'Nesting of a JSON body; beyond it 400.' },
  maxSchemaBytes: {
    default: 256 * 1024,
    unit: 'bytes',
    env: 'ELECTRIC_AGENTS_MAX_SCHEMA_BYTES',
    what: 'One registered JSON schema; beyond it 400.',
  },
  maxTypeBytes: {
    default: 2 * 1024 * 1024,
    unit: 'bytes',
    env: 'ELECTRIC_AGENTS_MAX_TYPE_BYTES',
    what: 'All that is registered of one entity type, its schemas in all; beyond it 400.',
  },
  maxSubschemas: {
    default: 1_000,
    unit: 'items',
    env: 'ELECTRIC_AGENTS_MAX_SUBSCHEMAS',
    what: 'Schemas within one registered JSON schema, itself included; beyond it 400.',
  },
  maxTypeSubschemas: {
    default: 4_000,
    unit: 'items',
    env: 'ELECTRIC_AGENTS_MAX_TYPE_SUBSCHEMAS',
    what: 'The same of all schemas that one registration or amendment brings; beyond it 400.',
  },
  maxTags: { default: 256, unit: 'items', env: 'ELECTRIC_AGENTS_MAX_TAGS', what: 'Tags of one entity; beyond it 400.' },
  maxTagKeyLength: { default: 256, unit: 'characters', env: 'ELECTRIC_AGENTS_MAX_TAG_KEY_LENGTH', what: 'Key of a tag; beyond it 400.' },
  maxTagValueLength: {
    default: 4_096,
    unit: 'characters',
    env: 'ELECTRIC_AGENTS_MAX_TAG_VALUE_LENGTH',
    what: 'Value of a tag; beyond it 400.',
  },
  maxReadBatch: {
    default: 256,
    unit: 'items',
    env: 'ELECTRIC_AGENTS_MAX_READ_BATCH',
    what: 'Entities, types or runners looked up by one query.',
  },
  maxWaitingReads: {
    default: 16_384,
    unit: 'items',
    env: 'ELECTRIC_AGENTS_MAX_WAITING_READS',
    what: 'Look-ups that wait for a query; beyond it 503.',
  },
  maxStreamReadBatch: {
    default: 64,
    unit: 'items',
    env: 'ELECTRIC_AGENTS_MAX_STREAM_READ_BATCH',
    what: 'Streams opened for readers by one query.',
  },
  maxStreamReadBatchBytes: {
    default: 2 * 1024 * 1024,
    unit: 'bytes',
    env: 'ELECTRIC_AGENTS_MAX_STREAM_READ_BATCH_BYTES',
    what: 'Bytes of streams that such a query brings; what a reader wants beyond its share is read for it alone.',
  },
  keptReadBytes: {
    default: 32 * 1024 * 1024,
    unit: 'bytes',
    env: 'ELECTRIC_AGENTS_KEPT_READ_BYTES',
    what: 'Memory for the beginnings of streams in Postgres that were read lately; their ends are asked for by every read.',
  },
  maxHeldReadBytes: {
    default: 256 * 1024 * 1024,
    unit: 'bytes',
    env: 'ELECTRIC_AGENTS_MAX_HELD_READ_BYTES',
    what: 'Memory for what readers of streams have not taken yet, in one process; beyond it those that have stood still the longest are cut off.',
  },
  maxListedEntities: { default: 10_000, unit: 'items', env: 'ELECTRIC_AGENTS_MAX_LISTED_ENTITIES', what: 'Rows of one entity list.' },
  maxListPortionBytes: {
    default: 4 * 1024 * 1024,
    unit: 'bytes',
    env: 'ELECTRIC_AGENTS_MAX_LIST_PORTION_BYTES',
    what: 'Stored bytes of the rows of a list that are held at once, and one row beyond; a longer list is sent while it is read.',
  },
  maxListedRunners: { default: 1_000, unit: 'items', env: 'ELECTRIC_AGENTS_MAX_LISTED_RUNNERS', what: 'Rows of one list of runners.' },
  maxListedClaims: {
    default: 1_000,
    unit: 'items',
    env: 'ELECTRIC_AGENTS_MAX_LISTED_CLAIMS',
    what: 'Claims that the health of a runner names.',
  },
  maxSandboxProfiles: {
    default: 100,
    unit: 'items',
    env: 'ELECTRIC_AGENTS_MAX_SANDBOX_PROFILES',
    what: 'Sandbox profiles of one runner; beyond it 400.',
  },
  maxRunnerTextLength: {
    default: 4_096,
    unit: 'characters',
    env: 'ELECTRIC_AGENTS_MAX_RUNNER_TEXT_LENGTH',
    what: 'A label, a member of a profile, an offset of a runner; beyond it 400. Texts of its diagnostics are cut.',
  },
  maxRunnerLeaseMs: {
    default: 24 * 60 * 60 * 1_000,
    unit: 'ms',
    env: 'ELECTRIC_AGENTS_MAX_RUNNER_LEASE_MS',
    what: 'How long a runner may say that it will be there; beyond it 400.',
  },
  maxOperationBatch: {
    default: 256,
    unit: 'items',
    env: 'ELECTRIC_AGENTS_MAX_OPERATION_BATCH',
    what: 'Entities spawned or closed by one workflow.',
  },
  maxOperationBatchBytes: {
    default: 256 * 1024,
    unit: 'bytes',
    env: 'ELECTRIC_AGENTS_MAX_OPERATION_BATCH_BYTES',
    what: 'Input of one workflow.',
  },
  maxSearchAttributeBytes: {
    default: 2_000,
    unit: 'bytes',
    env: 'ELECTRIC_AGENTS_MAX_SEARCH_ATTRIBUTE_BYTES',
    what: 'Entity URLs by which an operation can be found in Temporal; servers take 2 KiB unless told otherwise.',
  },
  maxInlinePayloadBytes: {
    default: 4 * 1024,
    unit: 'bytes',
    env: 'ELECTRIC_AGENTS_MAX_INLINE_PAYLOAD_BYTES',
    what: 'Arguments and first message of a spawn that travel through Temporal; larger ones wait in a row.',
  },
  maxWaitingOperations: {
    default: 4_096,
    unit: 'items',
    env: 'ELECTRIC_AGENTS_MAX_WAITING_OPERATIONS',
    what: 'Spawns, and closes, that wait for a batch; beyond it 503.',
  },
  maxForkEntities: {
    default: 1_000,
    unit: 'items',
    env: 'ELECTRIC_AGENTS_MAX_FORK_ENTITIES',
    what: 'Entities of a subtree that is forked; beyond it 400. Also the entities that one workflow forks at once.',
  },
  maxForkRows: {
    default: 25_000,
    unit: 'items',
    env: 'ELECTRIC_AGENTS_MAX_FORK_ROWS',
    what: 'Manifest rows, child statuses and watermarks of a subtree that is forked (an attachment is a row); beyond it 400. Also those that one workflow forks at once.',
  },
  forkWaitMs: {
    default: 120_000,
    unit: 'ms',
    env: 'ELECTRIC_AGENTS_FORK_WAIT_MS',
    what: 'How long a fork waits for its subtree to become idle where the request does not say.',
  },
  maxForkWaitMs: {
    default: 3_600_000,
    unit: 'ms',
    env: 'ELECTRIC_AGENTS_MAX_FORK_WAIT_MS',
    what: 'The longest that a fork waits, whatever the request says.',
  },
  forkLockMs: {
    default: 120_000,
    unit: 'ms',
    env: 'ELECTRIC_AGENTS_FORK_LOCK_MS',
    what: 'With a foreign stream server: how long the attachments of what is being copied cannot be removed; longer than the copying may take: at least 110,000.',
    least: 110_000, // the copying has 100 s (workflows/fork-subtree.ts)
  },
  maxAppendBatch: { default: 512, unit: 'items', env: 'ELECTRIC_AGENTS_MAX_APPEND_BATCH', what: 'Appends in one transaction.' },
  maxAppendBatchBytes: {
    default: 8 * 1024 * 1024,
    unit: 'bytes',
    env: 'ELECTRIC_AGENTS_MAX_APPEND_BATCH_BYTES',
    what: 'Bytes appended in one transaction (one larger append travels alone).',
  },
  maxWaitingAppends: {
    default: 16_384,
    unit: 'items',
    env: 'ELECTRIC_AGENTS_MAX_WAITING_APPENDS',
    what: 'Appends that wait for a batch; beyond it 503.',
  },
  appendIntentOwnedMs: {
    default: 60_000,
    unit: 'ms',
    env: 'ELECTRIC_AGENTS_APPEND_INTENT_OWNED_MS',
    what: 'With a foreign stream server: how long an append belongs to the process that wrote it down, then to `sweep`: at most 600,000. Where that is shorter than one may take (20 s, and its consequences) `sweep` works on what is under way.',
    most: 600_000, // what a dead process left has no consequences for so long
  },
  maxAttachmentBytes: {
    default: 26_214_400,
    unit: 'bytes',
    env: 'ELECTRIC_AGENTS_MAX_ATTACHMENT_BYTES',
    what: 'One attachment, inclusive; beyond it 413.',
    lenient: true,
  },
  maxFormFields: { default: 32, unit: 'items', env: 'ELECTRIC_AGENTS_MAX_FORM_FIELDS', what: 'Fields of an upload; beyond it 400.' },
  maxFormFieldBytes: {
    default: 262_144,
    unit: 'bytes',
    env: 'ELECTRIC_AGENTS_MAX_FORM_FIELD_BYTES',
    what: 'One field of an upload that is not its file; beyond it 400.',
  },
  maxFormBytes: {
    default: 1_048_576,
    unit: 'bytes',
    env: 'ELECTRIC_AGENTS_MAX_FORM_BYTES',
    what: 'What an upload may weigh beside its file; beyond it 413.',
  },
  attachmentChunkBytes: {
    default: 1_048_576,
    unit: 'bytes',
    env: 'ELECTRIC_AGENTS_ATTACHMENT_CHUNK_BYTES',
    what: 'Bytes of an attachment held in memory at once, and in one entry of its stream.',
  },
  maxSpooledUploads: {
    default: 64,
    unit: 'items',
    env: 'ELECTRIC_AGENTS_MAX_SPOOLED_UPLOADS',
    what: 'Uploads under way at once, each in a temporary file; beyond it 503.',
  },
  attachmentClaimMs: {
    default: 60_000,
    unit: 'ms',
    env: 'ELECTRIC_AGENTS_ATTACHMENT_CLAIM_MS',
    what: 'How long a process may take to store one chunk of an attachment, or to remove one; then `sweep` removes what is there.',
  },
  operationDeadlineMs: {
    default: 30_000,
    unit: 'ms',
    env: 'ELECTRIC_AGENTS_OPERATION_DEADLINE_MS',
    what: 'How long a request waits for the verdict of its operation; beyond it 503, and the operation goes on.',
  },
  workflowStartLimitMs: {
    default: 2_500,
    unit: 'ms',
    env: 'ELECTRIC_AGENTS_WORKFLOW_START_LIMIT_MS',
    what: 'How long a start waits beyond the last sign of life of the workflow service, which counts as down then.',
  },
  workflowBusyLimitMs: {
    default: 10_000,
    unit: 'ms',
    env: 'ELECTRIC_AGENTS_WORKFLOW_BUSY_LIMIT_MS',
    what: 'How long a start may take while the workflow service shows that it lives.',
  },
  discoveryLimitMs: {
    default: 10_000,
    unit: 'ms',
    env: 'ELECTRIC_AGENTS_DISCOVERY_LIMIT_MS',
    what: 'How long a serve endpoint may take to describe its type, redirects included; beyond it 502.',
  },
  maxDiscoveryBytes: {
    default: 1024 * 1024,
    unit: 'bytes',
    env: 'ELECTRIC_AGENTS_MAX_DISCOVERY_BYTES',
    what: 'What a serve endpoint answers; beyond it 502.',
  },
  maxOutboundCalls: {
    default: 256,
    unit: 'items',
    env: 'ELECTRIC_AGENTS_MAX_OUTBOUND_CALLS',
    what: 'Calls in flight to URLs that clients gave; beyond it 503.',
  },
  wakeOwnedMs: {
    default: 5_000,
    unit: 'ms',
    env: 'ELECTRIC_AGENTS_WAKE_OWNED_MS',
    what: 'How long the process that started a wake may take to begin its first delivery; then any process does.',
  },
  deadlinesEveryMs: {
    default: 500,
    unit: 'ms',
    env: 'ELECTRIC_AGENTS_DEADLINES_EVERY_MS',
    what: 'How often a process looks for deliveries that are due and for leases that have ended.',
  },
  deliveryLimitMs: {
    default: 40_000,
    unit: 'ms',
    env: 'ELECTRIC_AGENTS_DELIVERY_LIMIT_MS',
    what: 'How long a handler may take to answer the delivery of a wake: at most 600,000.',
    most: 600_000, // an attempt has 660 s (workflows/deliver-wake.ts)
  },
  maxDeliveryAnswerBytes: {
    default: 64 * 1024,
    unit: 'bytes',
    env: 'ELECTRIC_AGENTS_MAX_DELIVERY_ANSWER_BYTES',
    what: 'What a handler may answer; beyond it the delivery has failed.',
  },
  maxDeliveries: {
    default: 512,
    unit: 'items',
    env: 'ELECTRIC_AGENTS_MAX_DELIVERIES',
    what: 'Deliveries of wakes in flight at once, in one process.',
  },
  maxDeliveriesPerOrigin: {
    default: 128,
    unit: 'items',
    env: 'ELECTRIC_AGENTS_MAX_DELIVERIES_PER_ORIGIN',
    what: 'Of these, to one origin: a handler that hangs holds up no other.',
  },
  freshDeliveriesPerOrigin: {
    default: 16,
    unit: 'items',
    env: 'ELECTRIC_AGENTS_FRESH_DELIVERIES_PER_ORIGIN',
    what: 'Of these, how many may be under way for up to 5 s without following one that has just ended in time; fewer where they do not.',
  },
  maxWaitingDeliveries: {
    default: 16_384,
    unit: 'items',
    env: 'ELECTRIC_AGENTS_MAX_WAITING_DELIVERIES',
    what: 'Wakes that wait for one of these places; beyond it they wait in their rows.',
  },
  maxDeliveryAttempts: {
    default: 100,
    unit: 'items',
    env: 'ELECTRIC_AGENTS_MAX_DELIVERY_ATTEMPTS',
    what: 'Failed deliveries of one wake, after which it is a dead letter.',
  },
  maxDeliveryAgeMs: {
    default: 86_400_000,
    unit: 'ms',
    env: 'ELECTRIC_AGENTS_MAX_DELIVERY_AGE_MS',
    what: 'Age of a wake whose deliveries fail, beyond which it is a dead letter.',
  },
  maxLostLeases: {
    default: 5,
    unit: 'items',
    env: 'ELECTRIC_AGENTS_MAX_LOST_LEASES',
    what: 'Wakes in a row that end, with their lease or by a done, and acknowledge nothing; then their events are given up, visibly.',
  },
  announceAgainMs: {
    default: 10_000,
    unit: 'ms',
    env: 'ELECTRIC_AGENTS_ANNOUNCE_AGAIN_MS',
    what: 'After how long a pull-wake that nobody claims is announced again; doubles up to 64 times.',
  },
  maxSubscriptionStreams: {
    default: 100_000,
    unit: 'items',
    env: 'ELECTRIC_AGENTS_MAX_SUBSCRIPTION_STREAMS',
    what: 'Streams that one request links to a subscription, by name or by pattern; beyond it 400.',
  },
  stopGraceMs: {
    default: 120_000,
    unit: 'ms',
    env: 'ELECTRIC_AGENTS_STOP_GRACE_MS',
    what: 'How long a handler may go on after SIGTERM, before its entity is stopped without it: at most 86,400,000.',
    most: 86_400_000, // for so long its entity takes no messages, and is not stopped
  },
  signingKeyOverlapMs: {
    default: 600_000,
    unit: 'ms',
    env: 'ELECTRIC_AGENTS_SIGNING_KEY_OVERLAP_MS',
    what: 'How long a key that signs webhooks is published before it signs first, and after it signed last. Receivers remember a key set for 300 s: at least 330,000.',
    least: 330_000,
  },
  signingKeyLifeMs: {
    default: 90 * 24 * 3_600_000,
    unit: 'ms',
    env: 'ELECTRIC_AGENTS_SIGNING_KEY_LIFE_MS',
    what: 'Age at which a key that signs webhooks gets a successor; never where the key is configured.',
  },
  longPollTimeoutMs: {
    default: 30_000,
    unit: 'ms',
    env: 'ELECTRIC_AGENTS_LONG_POLL_TIMEOUT_MS',
    what: 'How long a long-poll waits for data.',
  },
  sseConnectionMs: {
    default: 180_000,
    unit: 'ms',
    env: 'ELECTRIC_AGENTS_SSE_CONNECTION_MS',
    what: 'Life of one SSE connection; clients reconnect.',
  },
  sseKeepAliveMs: {
    default: 30_000,
    unit: 'ms',
    env: 'ELECTRIC_AGENTS_SSE_KEEP_ALIVE_MS',
    what: 'Interval of control frames on a silent SSE connection.',
  },
  readStallMs: {
    default: 120_000,
    unit: 'ms',
    env: 'ELECTRIC_AGENTS_READ_STALL_MS',
    what: 'How long a reader of a stream may take nothing of what waits for it before it is cut off.',
  },
  shutdownNoticeMs: {
    default: 500,
    unit: 'ms',
    env: 'ELECTRIC_AGENTS_SHUTDOWN_NOTICE_MS',
    what: 'How long a server that stops keeps its port open at least, and says 503 to health and to new requests. Behind a load balancer: longer than it takes that to notice.',
  },
} as const satisfies Record<string, LimitDefinition>

export type LimitName = keyof typeof limitDefinitions
export type Limits = Readonly<Record<LimitName, number>>

export const defaultLimits: Limits = Object.fromEntries(
  Object.entries(limitDefinitions).map(([name, definition]) => [name, definition.default]),
) as unknown as Limits // fromEntries forgets the names of the keys
