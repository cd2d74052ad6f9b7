/** Every variable that configures the server (spec/13 §3): docs/configuration.md is generated from these tables. */

interface Variable {
  /** The first one that is set wins. */
  readonly names: readonly string[]
  /** As documented; the value itself is in the schema. */
  readonly default: string
  readonly what: string
  readonly isSecret?: true
}

export const variables = {
  databaseUrl: {
    names: ['ELECTRIC_AGENTS_DATABASE_URL', 'DATABASE_URL'],
    default: 'required; `npm start` brings its own',
    what: 'Postgres of the registry, and of the streams.',
    isSecret: true,
  },
  port: { names: ['ELECTRIC_AGENTS_PORT', 'PORT'], default: '4437', what: 'Port of the HTTP server.' },
  host: { names: ['ELECTRIC_AGENTS_HOST', 'HOST'], default: '0.0.0.0', what: 'Interface that the HTTP server listens on.' },
  metricsPort: {
    names: ['ELECTRIC_AGENTS_METRICS_PORT'],
    default: 'unset: nothing is counted',
    what: 'Port, on the same interface, that serves `/metrics` to Prometheus (docs/metrics.md).',
  },
  baseUrl: {
    names: ['ELECTRIC_AGENTS_BASE_URL', 'BASE_URL'],
    default: 'the listening URL',
    what:
      'Public URL, used in the URLs that are handed out: callbacks of wakes, the key set. With several replicas set it to what stands in front of them: ' +
      'otherwise each hands out its own, and what a handler calls back dies with the replica that delivered.',
  },
  streamsUrl: {
    names: ['ELECTRIC_AGENTS_DURABLE_STREAMS_URL', 'DURABLE_STREAMS_URL', 'STREAMS_URL'],
    default: 'unset: streams live in Postgres',
    what: 'A Durable Streams server to keep the streams in; complete prefix, including `/v1/stream`.',
  },
  streamsBearer: {
    names: ['ELECTRIC_AGENTS_DURABLE_STREAMS_BEARER', 'DURABLE_STREAMS_BEARER'],
    default: 'unset',
    what: 'Bearer token for that server.',
    isSecret: true,
  },
  streamsDataDir: {
    names: ['ELECTRIC_AGENTS_STREAMS_DATA_DIR', 'STREAMS_DATA_DIR'],
    default: 'unset',
    what: 'Accepted without effect: streams live in Postgres.',
  },
  streamsHost: {
    names: ['ELECTRIC_AGENTS_STREAMS_HOST', 'STREAMS_HOST'],
    default: 'unset',
    what: 'Accepted without effect: streams are served on the port of the server.',
  },
  streamsPort: {
    names: ['ELECTRIC_AGENTS_STREAMS_PORT', 'STREAMS_PORT'],
    default: 'unset',
    what: 'Accepted without effect: streams are served on the port of the server.',
  },
  electricUrl: {
    names: ['ELECTRIC_AGENTS_ELECTRIC_URL', 'ELECTRIC_URL'],
    default: 'unset',
    what: 'Accepted without effect: nothing here needs an Electric.',
  },
  electricSecret: { names: ['ELECTRIC_AGENTS_ELECTRIC_SECRET'], default: 'unset', what: 'Accepted without effect.', isSecret: true },
  webhookSigningKey: {
    names: ['ELECTRIC_AGENTS_WEBHOOK_SIGNING_PRIVATE_KEY', 'WEBHOOK_SIGNING_PRIVATE_KEY'],
    default: 'unset: the server makes its own, and renews them',
    what: 'Ed25519 private key (PKCS#8 PEM, line breaks may be written as `\\n`, or JWK) that signs webhooks; the same for all replicas. Kept in Postgres. The first one signs at once; another one, or none, takes over after `signingKeyOverlapMs`.',
    isSecret: true,
  },
  service: {
    names: ['ELECTRIC_AGENTS_SERVICE', 'SERVICE'],
    default: 'default',
    what: 'Tenant: whose entities this server serves. At most 200 bytes.',
  },
  tenantId: {
    names: ['ELECTRIC_AGENTS_TENANT_ID', 'TENANT_ID'],
    default: 'default',
    what: 'The same; the service wins. At most 200 bytes.',
  },
  workingDirectory: {
    names: ['ELECTRIC_AGENTS_WORKING_DIRECTORY', 'WORKING_DIRECTORY'],
    default: 'the current folder',
    what: 'Shown at the start, and without effect otherwise: handlers run elsewhere.',
  },
  dispatchRecoveryIntervalMs: {
    names: ['ELECTRIC_AGENTS_DISPATCH_RECOVERY_INTERVAL_MS'],
    default: 'unset',
    what: 'Accepted without effect.',
  },
  staleOutstandingWakeAfterMs: {
    names: ['ELECTRIC_AGENTS_STALE_OUTSTANDING_WAKE_AFTER_MS'],
    default: 'unset',
    what: 'Accepted without effect.',
  },
  poolMax: { names: ['ELECTRIC_AGENTS_PG_POOL_MAX'], default: '100', what: 'Connections to Postgres at most.' },
  spawnConcurrency: {
    names: ['ELECTRIC_AGENTS_SPAWN_CONCURRENCY'],
    default: '16',
    what: 'Accepted without effect: spawns are committed in groups.',
  },
  rewriteLoopbackWebhooksTo: {
    names: ['ELECTRIC_AGENTS_REWRITE_LOOPBACK_WEBHOOKS_TO'],
    default: 'unset',
    what: 'Host, or URL, that replaces a loopback host in webhook URLs.',
  },
  outboundPrivate: {
    names: ['ELECTRIC_AGENTS_OUTBOUND_PRIVATE'],
    default: '`allow`; `refuse` where `NODE_ENV=production` without `ELECTRIC_INSECURE`',
    what: 'Whether URLs that clients give (serve endpoints) may lead to loopback and private networks.',
  },
  outboundAllowed: {
    names: ['ELECTRIC_AGENTS_OUTBOUND_ALLOWED'],
    default: 'unset',
    what: 'Host names, addresses and networks (`10.1.0.0/16`), separated by commas, that may be called although they are private.',
  },
  insecure: {
    names: ['ELECTRIC_INSECURE'],
    default: 'unset',
    what: '`true`: requests without a principal act as `system:dev-local`, in production too.',
  },
  nodeEnv: { names: ['NODE_ENV'], default: 'unset', what: '`production` switches that fallback off.' },
  refuseSystemPrincipals: {
    names: ['ELECTRIC_AGENTS_REFUSE_SYSTEM_PRINCIPALS'],
    default: 'false',
    what: '`true`: the principal header may not name `system:*`.',
  },
  logLevel: { names: ['ELECTRIC_AGENTS_LOG_LEVEL'], default: 'info', what: 'fatal, error, warn, info, debug, trace or silent.' },
  logFile: { names: ['ELECTRIC_AGENTS_LOG_FILE'], default: 'on', what: '`false` switches the log file off.' },
  logDir: { names: ['ELECTRIC_AGENTS_LOG_DIR'], default: '`logs` in the current folder', what: 'Folder of the log files.' },
  taskQueue: {
    names: ['ELECTRIC_AGENTS_TASK_QUEUE'],
    default: '`agents`, of another tenant `agents:{tenant}`',
    what: 'Temporal task queue of server and workers; one for each tenant. At most 900 bytes.',
  },
  worker: {
    names: ['ELECTRIC_AGENTS_WORKER'],
    default: 'in-process',
    what: '`separate`: this server runs no worker; start one with `npm run worker`.',
  },
  dataDir: { names: ['AGENTS_DATA_DIR'], default: '.data', what: 'Where `npm start` keeps Postgres, Temporal and their logs.' },
  demo: {
    names: ['AGENTS_DEMO'],
    default: 'true',
    what: '`false`: `npm start` brings no demo agent, the entity type `echo`. Nothing else looks at it.',
  },
} as const satisfies Record<string, Variable>

/** Read by `@temporalio/envconfig`; listed for the documentation. */
export const temporalVariables = {
  TEMPORAL_ADDRESS: { default: '127.0.0.1:7233; `npm start` brings its own', what: 'host:port of the Temporal service.' },
  TEMPORAL_NAMESPACE: { default: 'default', what: 'Temporal namespace.' },
  TEMPORAL_API_KEY: { default: 'unset', what: 'API key (Temporal Cloud); switches TLS on.' },
  TEMPORAL_TLS: { default: 'unset', what: '`true` or `false`.' },
  TEMPORAL_TLS_CLIENT_CERT_PATH: { default: 'unset', what: 'Client certificate for mTLS.' },
  TEMPORAL_TLS_CLIENT_KEY_PATH: { default: 'unset', what: 'Its key.' },
  TEMPORAL_TLS_SERVER_CA_CERT_PATH: { default: 'unset', what: 'Certificate authority of the service.' },
  TEMPORAL_TLS_SERVER_NAME: { default: 'unset', what: 'Server name to expect.' },
  TEMPORAL_CONFIG_FILE: {
    default: 'unset',
    what: 'A Temporal configuration file (TOML); read only when named here or by TEMPORAL_PROFILE.',
  },
  TEMPORAL_PROFILE: { default: 'unset', what: 'Profile in that file.' },
  ELECTRIC_AGENTS_TEMPORAL_DOWNLOAD_URL: {
    default: 'https://temporal.download/cli/archive',
    what: 'Where `npm start` downloads the Temporal dev server.',
  },
} as const
