/**
 * The one error catalogue: name → HTTP status, wire code, message, and what to do next.
 *
 * A wire code keeps its meaning for ever; several entries may share one (`INVALID_REQUEST`, `UNAUTHORIZED`), each with its own text.
 * Clients show `message`, and branch on `code` and the HTTP status (spec/02 §1.3).
 */

/** One violation of a schema: `path` is a JSON pointer (`/` for the root), `message` Ajv's text (spec/02 §1.2). */
export interface Violation {
  readonly path: string
  readonly message: string
}

/** A refusal as plain JSON: what travels through workflows and what the HTTP layer renders. */
export interface Refusal {
  readonly code: string
  readonly status: number
  readonly message: string
  readonly details?: unknown
  readonly retryAfterS?: number
  /** Stands in the body in the place of message and details. */
  readonly instead?: Readonly<Record<string, unknown>>
}

/** A refusal as an exception. `refusal` is all there is to it; the text is never parsed. */
export class AgentsError extends Error {
  readonly refusal: Refusal

  constructor(refusal: Refusal) {
    super(refusal.message)
    this.name = 'AgentsError'
    this.refusal = refusal
  }

  withDetails(details: unknown): AgentsError {
    return new AgentsError({ ...this.refusal, details })
  }

  /** Answers `members` in the place of message and details. */
  saying(members: Readonly<Record<string, unknown>>): AgentsError {
    return new AgentsError({ ...this.refusal, instead: members })
  }

  retryAfter(seconds: number): AgentsError {
    return new AgentsError({ ...this.refusal, retryAfterS: seconds })
  }
}

interface CatalogueEntry<Facts extends readonly never[]> {
  /** HTTP status. */
  readonly status: number
  /** Code on the wire, where it differs from the entry's name. */
  readonly code?: string
  readonly message: (...facts: Facts) => string
  /** What the caller can do next; printed in docs/errors.md. */
  readonly next: string
}

type Catalogue<Entries> = {
  readonly [Name in keyof Entries]: Entries[Name] extends { message: (...facts: infer Facts) => string }
    ? (...facts: Facts) => AgentsError
    : never
}

// biome-ignore lint/suspicious/noExplicitAny: the entries' argument lists differ; `Catalogue` restores each one's own.
type AnyEntry = CatalogueEntry<any>

function catalogue<const Entries extends Record<string, AnyEntry>>(entries: Entries): Catalogue<Entries> {
  const build = ([name, entry]: [string, AnyEntry]) => [
    name,
    (...facts: unknown[]) =>
      new AgentsError({
        code: entry.code ?? name,
        status: entry.status,
        message: (entry.message as (...f: unknown[]) => string)(...facts),
      }),
  ]
  return Object.fromEntries(Object.entries(entries).map((entry) => build(entry as [string, AnyEntry]))) as Catalogue<Entries>
}

const INVALID = { code: 'INVALID_REQUEST', status: 400 } as const
const UNAUTHORIZED = { code: 'UNAUTHORIZED', status: 401 } as const
const SCHEMA = { code: 'SCHEMA_VALIDATION_FAILED', status: 422 } as const

/** Every entry of the catalogue; docs/errors.md is generated from it. */
export const errorEntries = {
  // requests
  INVALID_JSON: { ...INVALID, message: () => 'Invalid JSON body', next: 'Send well-formed JSON in UTF-8.' },
  INVALID_BODY: { ...INVALID, message: () => 'Request body does not match API schema', next: 'Correct what `details` names.' },
  INVALID_REQUEST: { ...INVALID, message: (reason: string) => reason, next: 'Correct the request.' },
  INVALID_ENTITY_URL: {
    ...INVALID,
    message: () => 'Invalid entity URL',
    next: 'Use `/{type}/{id}` of visible ASCII, percent-encoding included: none of `*`, `"`, `#`, `<`, `>`, `?`, a backslash, a backtick, `{`, `}`; at most 1,000 bytes.',
  },
  BODY_TOO_LARGE: {
    code: 'INVALID_REQUEST',
    status: 413,
    message: (limitBytes: number) => `Request body exceeds ${limitBytes} bytes`,
    next: 'Send less at once.',
  },
  NOT_IMPLEMENTED: {
    status: 501,
    message: (feature: string) => `Not implemented yet: ${feature}`,
    next: 'Leave the field or route out; a later release has it.',
  },
  STREAM_PATH_RESERVED: {
    code: 'NOT_FOUND',
    status: 404,
    message: () => 'No stream lives at this path',
    next: 'Choose a path outside of the reserved ones.',
  },
  AGENT_UI_NOT_FOUND: {
    status: 404,
    message: () => 'Agent UI build artifacts are missing',
    next: 'Build the agent UI, or use the API without it.',
  },
  INTERNAL_SERVER_ERROR: { status: 500, message: () => 'Internal server error', next: 'Look for the request in the server log.' },

  // principals and permissions (spec/12)
  MISSING_PRINCIPAL: { ...UNAUTHORIZED, message: () => 'Missing Electric-Principal', next: 'Send `electric-principal: <kind>:<id>`.' },
  INVALID_PRINCIPAL: {
    ...INVALID,
    message: (reason: string) => reason,
    next: 'Use `<kind>:<id>` with kind user, agent, service or system.',
  },
  NOT_ALLOWED: {
    ...UNAUTHORIZED,
    message: (permission: string, resource: string) => `Principal is not allowed to ${permission} ${resource}`,
    next: 'Ask the owner for a grant.',
  },
  INVALID_WRITE_TOKEN: {
    ...UNAUTHORIZED,
    message: () => 'Invalid write token',
    next: 'Claim a wake of the entity; its write token authorises appends.',
  },
  RUNNER_NOT_OWNED: {
    code: 'UNAUTHORIZED',
    status: 403,
    message: () => 'Runner dispatch requires the authenticated owner',
    next: 'Let the owner of the runner spawn the entity.',
  },
  RUNNER_ACCESS_REFUSED: {
    code: 'UNAUTHORIZED',
    status: 403,
    message: () => 'Runner access requires the authenticated owner',
    next: 'Act as the owner of the runner; nobody else may, system principals included.',
  },
  RUNNER_OWNER_MISMATCH: {
    code: 'UNAUTHORIZED',
    status: 403,
    message: () => 'owner_principal must match the authenticated principal',
    next: 'Leave the field out, or act as that principal.',
  },

  // entity types (spec/02 §2–5)
  TYPE_NOT_FOUND: { code: 'NOT_FOUND', status: 404, message: () => 'Entity type not found', next: 'Register the type.' },
  UNKNOWN_ENTITY_TYPE: { status: 404, message: (type: string) => `Entity type "${type}" not found`, next: 'Register the type.' },
  SCHEMA_KEY_EXISTS: {
    status: 409,
    message: (family: string, key: string) => `Cannot amend existing ${family} schema key: ${key}`,
    next: 'Register the type again to replace a schema.',
  },
  TYPE_BUILT_IN: {
    ...INVALID,
    message: (refused: string) => `Entity type "principal" is built in and cannot be ${refused}`,
    next: 'Use another type.',
  },
  TYPE_NAME_RESERVED: { ...INVALID, message: () => 'Entity type names starting with "_" are reserved', next: 'Choose another name.' },
  SERVE_ENDPOINT_UNREACHABLE: { status: 502, message: (reason: string) => reason, next: 'Check the serve endpoint.' },
  SERVE_ENDPOINT_NAME_MISMATCH: {
    status: 400,
    message: (returned: string, expected: string) => `Serve endpoint returned name "${returned}" but expected "${expected}"`,
    next: 'Register the type under the name that its endpoint serves.',
  },

  // entities (spec/02 §6–9, spec/03 §1.3)
  ENTITY_NOT_FOUND: {
    code: 'NOT_FOUND',
    status: 404,
    message: (url: string) => `Entity not found at ${url}`,
    next: 'Spawn it, or check the URL.',
  },
  ENTITY_GONE: { code: 'NOT_FOUND', status: 404, message: () => 'Entity not found', next: 'Spawn it, or check the URL.' },
  PARENT_NOT_FOUND: { code: 'NOT_FOUND', status: 404, message: () => 'Parent entity not found', next: 'Spawn the parent first.' },
  RUNNER_NOT_FOUND: {
    code: 'NOT_FOUND',
    status: 404,
    message: (id: string) => `Runner "${id}" not found`,
    next: 'Register the runner first.',
  },
  RUNNER_CLAIM_REFUSED: {
    code: 'UNAUTHORIZED',
    status: 403,
    message: () => 'Runner claim requires the authenticated owner',
    next: 'Claim as the owner of the runner.',
  },
  RUNNER_DISABLED: { code: 'NOT_RUNNING', status: 409, message: () => 'Runner is disabled', next: 'Enable the runner.' },
  WAKE_OF_ANOTHER_RUNNER: {
    ...INVALID,
    message: () => 'Wake event subscription_id does not match runner',
    next: 'Claim what was announced on the wake stream of this runner.',
  },
  WAKE_CLAIMED: {
    code: 'ALREADY_CLAIMED',
    status: 409,
    message: (holder: string, generation: number) =>
      JSON.stringify({ error: { code: 'ALREADY_CLAIMED', current_holder: holder, generation } }), // as the subscription says it (spec/07 §3.7)
    next: 'Skip the event: somebody works on it.',
  },
  CLAIM_WITHOUT_ENTITY: {
    code: 'NOT_FOUND',
    status: 404,
    message: () => 'Claim stream is not attached to an entity',
    next: 'Nothing: runners work on entities only.',
  },
  RUNNER_UNKNOWN: { code: 'NOT_FOUND', status: 404, message: () => 'Runner not found', next: 'Register the runner first.' },
  INVALID_RUNNER_OWNER: {
    ...INVALID,
    message: (owner: string) => `owner_principal must be a valid principal URL (e.g. /principal/user%3Aalice), got: ${owner}`,
    next: 'Send the URL of a principal.',
  },
  INVALID_RUNNER_ID: {
    ...INVALID,
    message: () => 'Runner id must be the same in a URL path as percent-encoded: not empty, without : / @ + , = & $ ; % * and the like',
    next: 'Choose an id of letters, digits, `-`, `_` and `.`.',
  },
  WAKE_STREAM_TAKEN: {
    code: 'INVALID_REQUEST',
    status: 409,
    message: (path: string) => `wake_stream "${path}" is in use by another runner or stream`,
    next: 'Choose another path, or leave the field out.',
  },
  FOREIGN_RUNNER_SUBSCRIPTION: {
    ...INVALID,
    message: (subscription: string, runner: string) => `subscription_id "${subscription}" can never be claimed by runner "${runner}"`,
    next: 'Leave subscription_id out, or begin it with `runner:<runner id>:`.',
  },
  DUPLICATE_URL: {
    status: 409,
    message: (url: string) => `Entity already exists at URL "${url}"`,
    next: 'Choose another id, or read the existing entity: URLs are never used twice.',
  },
  PRINCIPAL_REFUSES: {
    ...INVALID,
    message: (refused: string) => `Principal entities are built in and cannot be ${refused}`,
    next: 'Address an ordinary entity.',
  },
  NOT_RUNNING: { status: 409, message: () => 'Entity is not accepting writes', next: 'The entity is stopping or ended; spawn another.' },
  ENTITY_STOPPED: { code: 'NOT_RUNNING', status: 409, message: () => 'Entity is stopped', next: 'The entity ended; spawn another.' },
  INVALID_SIGNAL: { status: 409, message: (status: string) => `Cannot signal a ${status} entity`, next: 'Nothing: the entity has ended.' },
  SIGNAL_LOST_RACE: {
    code: 'INVALID_SIGNAL',
    status: 409,
    message: () => 'Cannot signal entity because it is already terminal',
    next: 'Nothing: the entity has ended.',
  },
  SCHEMA_VALIDATION_FAILED: { ...SCHEMA, message: () => 'Validation failed', next: 'Correct what `details` names.' },
  UNKNOWN_MESSAGE_TYPE: {
    status: 422,
    message: (type: string) => `Unknown message type "${type}"`,
    next: 'Use a type of the entity type’s inbox_schemas.',
  },
  MISSING_PAYLOAD: { ...INVALID, message: () => 'Missing required field: payload', next: 'Send `payload`; null counts.' },
  FROM_MISMATCH: {
    ...INVALID,
    message: (field: string) => `Request ${field} must match Electric-Principal`,
    next: 'Leave the field out, or send as that principal.',
  },
  FROM_AGENT_MISMATCH: {
    ...INVALID,
    message: () => 'Request from_agent must match authenticated agent principal',
    next: 'Present the agent’s current write token.',
  },
  IDENTITY_NOT_ALLOWED: {
    code: 'UNAUTHORIZED',
    status: 403,
    message: () => 'Only built-in system principals can update principal identity',
    next: 'Let the identity system send it.',
  },
  NO_INBOX_FIELDS: {
    ...INVALID,
    message: () => 'No inbox fields to update',
    next: 'Send `payload`, `position`, `mode` or `status`.',
  },
  ATTACHMENT_TOO_LARGE: {
    code: 'INVALID_REQUEST',
    status: 413,
    message: (bytes: number) => `Attachment exceeds maximum size of ${bytes} bytes`,
    next: 'Send a smaller file.',
  },
  ATTACHMENT_EXISTS: {
    code: 'INVALID_REQUEST',
    status: 409,
    message: (id: string) => `Attachment already exists at id "${id}"`,
    next: 'Choose another id, or delete the attachment first.',
  },
  ATTACHMENT_NOT_FOUND: {
    code: 'NOT_FOUND',
    status: 404,
    message: () => 'Attachment not found',
    next: 'Look for its id in the manifest rows of the entity.',
  },
  ATTACHMENT_NOT_COMPLETE: {
    code: 'INVALID_REQUEST',
    status: 409,
    message: () => 'Attachment is not complete',
    next: 'Wait until its manifest row says `complete`.',
  },
  ATTACHMENT_MISPLACED: {
    code: 'INVALID_REQUEST',
    status: 409,
    message: () => 'Attachment stream path does not match its entity and id',
    next: 'Delete the manifest row, and upload the attachment again.',
  },
  COLLECTION_NOT_WRITABLE: {
    code: 'UNAUTHORIZED',
    status: 403,
    message: (collection: string) => `Collection "${collection}" is not writable`,
    next: 'Let the entity type register the collection as externally writable.',
  },
  OPERATION_NOT_ALLOWED: {
    code: 'UNAUTHORIZED',
    status: 403,
    message: (operation: string, collection: string) => `Operation "${operation}" is not allowed on collection "${collection}"`,
    next: 'Use an operation that the entity type registered for the collection.',
  },
  ROW_VALUE_REQUIRED: {
    ...INVALID,
    message: (operation: string) => `value is required for ${operation}`,
    next: 'Send `value`, an object.',
  },
  ROW_KEY_REQUIRED: {
    ...INVALID,
    message: (operation: string) => `key is required for ${operation}`,
    next: 'Send a `key` that is not empty.',
  },
  UNKNOWN_EVENT_TYPE: {
    status: 422,
    message: (type: string) => `Unknown event type "${type}"`,
    next: 'Use a type of the entity type’s state_schemas.',
  },
  TAG_LIMIT: { ...INVALID, message: (limit: string) => `Tags are limited to ${limit}`, next: 'Use fewer or shorter tags.' },
  ENTITY_PERSIST_FAILED: {
    status: 500,
    message: (change: string) => `Entity not found after ${change}`,
    next: 'The entity vanished meanwhile; read it again.',
  },

  // forks (spec/04)
  FORK_NOT_TOP_LEVEL: { ...INVALID, message: () => 'Only top-level entities can be forked', next: 'Fork the root of the subtree.' },
  FORK_CUT_TWICE: {
    ...INVALID,
    message: () => 'fork_pointer and anchor are mutually exclusive',
    next: 'Send one of them.',
  },
  FORK_WAIT_INVALID: {
    ...INVALID,
    message: () => 'waitTimeoutMs must be a non-negative number',
    next: 'Send milliseconds; 0 does not wait.',
  },
  FORK_ID_INVALID: {
    ...INVALID,
    message: () => 'Fork instance_id must not be empty or contain forward slashes',
    next: 'Send one path segment, or leave it out.',
  },
  FORK_POINTER_UNKNOWN: {
    ...INVALID,
    message: (offset: string, stream: string) =>
      `fork_pointer.offset (${offset}) does not match any event's Stream-Next-Offset on ${stream}`,
    next: 'Take the offset from a fresh read of the stream.',
  },
  FORK_POINTER_OUT_OF_RANGE: {
    ...INVALID,
    message: (subOffset: string, stream: string, available: number) =>
      `fork_pointer.sub_offset ${subOffset} out of range past anchor on ${stream} (valid: 1..${available})`,
    next: 'Count the items behind the offset, from 1.',
  },
  FORK_NO_COMPLETED_RUN: {
    ...INVALID,
    message: (stream: string) => `Source ${stream} has no completed run to fork from`,
    next: 'Wait for a run to complete, or fork at a pointer.',
  },
  FORK_TOO_LARGE: {
    ...INVALID,
    message: (entities: number) => `Subtree has more than ${entities} entities`,
    next: 'Fork a smaller subtree, or raise the limit.',
  },
  FORK_TOO_MANY_ROWS: {
    ...INVALID,
    message: (rows: number) => `Subtree has more than ${rows} manifest rows, attachments among them`,
    next: 'Fork a smaller subtree, remove attachments, or raise the limit.',
  },
  FORK_TERMINAL: {
    code: 'NOT_RUNNING',
    status: 409,
    message: (url: string) => `Cannot fork terminal entity "${url}"`,
    next: 'Fork at a pointer that does not keep the ended entity, or fork another.',
  },
  FORK_WAIT_TIMEOUT: {
    status: 409,
    message: (whose: string) => `Timed out waiting for ${whose} to become idle`,
    next: 'Retry with a larger waitTimeoutMs, or fork at a pointer.',
  },
  FORK_IN_PROGRESS: { status: 409, message: () => 'Entity subtree is being forked', next: 'Repeat the request after a moment.' },
  FORK_WAKE_NEEDS_PARENT: {
    ...INVALID,
    message: () => "wake requires parent (the fork's wake fires to its parent)",
    next: 'Send `parent` too.',
  },
  FORK_WAKE_NOT_PARENTS: {
    ...UNAUTHORIZED,
    message: () => 'wake.subscriberUrl must match parent',
    next: 'Let the parent be the subscriber.',
  },
  IDEMPOTENCY_KEY_REUSED: {
    status: 422,
    message: () => 'Idempotency-Key was used for another request',
    next: 'Use a new key for each request, and the same one for its repetitions.',
  },

  // sandbox selection (spec/02 §8)
  SANDBOX_NEEDS_PROFILE: {
    ...INVALID,
    message: () => 'sandbox requires a "profile" (or "inherit": true with a parent that has a shared sandbox).',
    next: 'Name a profile that a runner advertises.',
  },
  SANDBOX_NOT_ADVERTISED: {
    ...INVALID,
    message: (profile: string, runner: string, advertised: string) =>
      `sandbox profile "${profile}" is not advertised by runner "${runner}" (advertised: ${advertised}).`,
    next: 'Choose a profile of that runner, or another runner.',
  },
  SANDBOX_NOT_OFFERED: {
    ...INVALID,
    message: (profile: string, available: string) =>
      `sandbox profile "${profile}" is not offered by any registered runner (available: ${available}).`,
    next: 'Register a runner that advertises the profile.',
  },
  SANDBOX_NEEDS_RUNNER: {
    ...INVALID,
    message: () =>
      'a shared sandbox (sandbox.key / sandbox.inherit) requires the entity to be pinned to a single runner via dispatch_policy, so all collaborators share one host.',
    next: 'Pin the entity to one runner, use a remote profile, or leave the key out.',
  },
  STREAM_NOT_FREE: {
    code: 'DUPLICATE_URL',
    status: 409,
    message: (url: string) => `A foreign stream stands at "${url}/main"`,
    next: 'Delete that stream, or choose another id.',
  },

  // subscriptions, wakes and claims (spec/06)
  SUBSCRIPTION_NOT_FOUND: { status: 404, message: () => 'Subscription not found', next: 'Create it, or check its id.' },
  SUBSCRIPTION_ALREADY_EXISTS: {
    status: 409,
    message: () => 'Subscription already exists with different configuration',
    next: 'Choose another id, or delete the subscription first.',
  },
  SUBSCRIPTION_NOT_PULL_WAKE: {
    ...INVALID,
    message: () => 'Subscription is not pull-wake',
    next: 'Use the callback that came with the delivery.',
  },
  WEBHOOK_URL_REJECTED: {
    status: 400,
    message: (reason: string) => reason,
    next: 'Use an https URL, or let the operator allow the host (ELECTRIC_AGENTS_OUTBOUND_ALLOWED).',
  },
  ALREADY_CLAIMED: {
    status: 409,
    message: () => 'Somebody else has claimed the wake',
    next: 'Wait until the lease of `current_holder` ends. The body has `current_holder` and `generation`, and no message.',
  },
  CONTROL_ROUTE_NOT_FOUND: {
    code: 'SUBSCRIPTION_NOT_FOUND',
    status: 404,
    message: () => 'Durable Streams control route not found',
    next: 'Use a path of the subscription API.',
  },
  WAKE_UNDER_WAY: {
    status: 409,
    message: () => 'A wake of the subscription is in the hands of its handler',
    next: 'Wait until it ends, then deliver the dead letter again.',
  },
  NO_PENDING_WORK: { status: 409, message: () => 'Subscription has no pending work', next: 'Wait for the next wake.' },
  TOKEN_MISSING: {
    code: 'TOKEN_INVALID',
    status: 401,
    message: () => 'Missing or malformed Authorization header',
    next: 'Send the claim token as `authorization: Bearer` or `electric-claim-token`.',
  },
  TOKEN_INVALID: { status: 401, message: () => 'Token invalid', next: 'Use the claim token of the current wake.' },
  FENCED: {
    status: 409,
    message: () => 'Wake generation is stale',
    next: 'Stop working on this wake: it is over, or somebody else has it.',
  },
  INVALID_OFFSET: {
    status: 409,
    message: (reason: string) => reason,
    next: 'Acknowledge offsets that were read, of streams that the wake names.',
  },
  WAKE_CALLBACK_NOT_FOUND: { status: 404, message: () => 'Unknown wake-callback consumer', next: 'Stop working on this wake.' },
  WAKE_NOT_DEAD: {
    code: 'NOT_FOUND',
    status: 404,
    message: () => 'No dead letter has this wake id',
    next: 'List the dead letters; one that was delivered again is none any more.',
  },

  // the engine
  WORKFLOW_SERVICE_UNAVAILABLE: {
    status: 503,
    message: () => 'The workflow service does not answer; nothing is known to have happened',
    next: 'Repeat the request after `retry-after` seconds.',
  },
  OPERATION_UNFINISHED: {
    status: 503,
    message: () => 'The operation has not finished in time; it goes on',
    next: 'Read the entity after a while, or repeat the request: it meets the outcome of the first.',
  },
  OPERATION_FAILED: {
    status: 503,
    message: () => 'The operation failed and left nothing behind',
    next: 'Repeat the request; the Temporal UI shows why it failed.',
  },
  DATABASE_UNAVAILABLE: {
    status: 503,
    message: () => 'The registry database does not answer',
    next: 'Repeat the request after `retry-after` seconds.',
  },
  STREAM_SERVICE_UNAVAILABLE: {
    status: 503,
    message: () => 'The stream service does not answer',
    next: 'Repeat the request after `retry-after` seconds.',
  },
  STREAM_ENTRY_TOO_LARGE: {
    code: 'INVALID_REQUEST',
    status: 413,
    message: () => 'The stream service does not take so much at once',
    next: 'Send less at once, or raise the limit of the foreign stream server.',
  },
  OVERLOADED: {
    status: 503,
    message: (queue: string) => `Too many requests are waiting (${queue})`,
    next: 'Repeat the request after `retry-after` seconds.',
  },
  SERVER_STOPPING: { status: 503, message: () => 'Server is shutting down', next: 'Repeat the request; another replica answers.' },
} as const satisfies Record<string, AnyEntry>

export const errors = catalogue(errorEntries)

export type ErrorName = keyof typeof errorEntries
