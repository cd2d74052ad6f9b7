-- From append to handler: who waits for which stream, and the one wake that each subscription has in flight (spec/06).

-- Where the consequences of a stream have been drawn to: its tail. One look-up for both kinds of stream stores; a store's rows are in one arm only.
CREATE VIEW stream_tails AS
  SELECT tenant_id, path, '0000000000000000_' || lpad(tail::text, 16, '0') AS tail
    FROM streams WHERE path IS NOT NULL AND gone_at IS NULL
   UNION ALL
  SELECT tenant_id, path, processed FROM stream_progress;

CREATE TABLE subscriptions (
  tenant_id       text NOT NULL,
  id              text COLLATE "C" NOT NULL,
  type            text NOT NULL CHECK (type IN ('webhook', 'pull-wake')),
  -- Names on the wire are relative to it: '' or '/v1/stream'.
  mount           text NOT NULL DEFAULT '',
  pattern         text COLLATE "C",
  -- The path of the pattern's segments before its first wildcard: a new stream looks its patterns up by its own ancestors.
  pattern_prefix  text COLLATE "C",
  -- What a repeated PUT is compared with.
  configuration   text NOT NULL,
  webhook_url     text,
  wake_stream     text COLLATE "C",
  lease_ttl_ms    int4 NOT NULL,
  description     text,
  created_by      text COLLATE "C",
  created_at      timestamptz NOT NULL DEFAULT now(),
  -- The server's own subscription of one entity (spec/06 §9), and the runner that its wakes go to.
  entity_url      text COLLATE "C",
  runner_id       text COLLATE "C",

  -- Never goes back for a stream: the runtime uses it as its producer epoch (spec/06 §4).
  generation      int8 NOT NULL DEFAULT 0,
  -- The wake in flight; null: idle.
  wake_id         text COLLATE "C",
  -- The stream that caused it, and the entity whose main stream that is.
  wake_path       text COLLATE "C",
  wake_entity_url text COLLATE "C",
  -- Deliveries, or announcements, of this wake that were begun: who moves it from n to n + 1 carries that one out.
  attempts        int4 NOT NULL DEFAULT 0,
  failures        int4 NOT NULL DEFAULT 0,
  last_error      text,
  started_at      timestamptz,
  -- When anybody may begin the next one. Null while a lease runs.
  due_at          timestamptz,
  holder          text COLLATE "C",
  -- The delivery that was claimed: of a wake that was delivered twice one run goes on.
  claimed_attempt int4,
  lease_until     timestamptz,
  -- Wakes in a row that ended with their lease, without an ack.
  lost_leases     int4 NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant_id, id)
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX subscriptions_by_wake ON subscriptions (tenant_id, wake_id) WHERE wake_id IS NOT NULL;
CREATE INDEX subscriptions_by_entity ON subscriptions (tenant_id, entity_url) WHERE entity_url IS NOT NULL;
CREATE INDEX subscriptions_by_wake_entity ON subscriptions (tenant_id, wake_entity_url) WHERE wake_entity_url IS NOT NULL;
CREATE INDEX subscriptions_by_runner ON subscriptions (tenant_id, runner_id) WHERE runner_id IS NOT NULL;
CREATE INDEX subscriptions_by_prefix ON subscriptions (tenant_id, pattern_prefix) WHERE pattern_prefix IS NOT NULL;
CREATE INDEX subscriptions_by_due ON subscriptions (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX subscriptions_by_lease ON subscriptions (lease_until) WHERE lease_until IS NOT NULL;
-- No column statistics where all or none are set from one minute to the next: counted at rest they say that no wake is in flight, and look-ups of one
-- wake then read all of them.
ALTER TABLE subscriptions ALTER COLUMN wake_id SET STATISTICS 0, ALTER COLUMN wake_entity_url SET STATISTICS 0;

CREATE TABLE subscription_links (
  tenant_id       text NOT NULL,
  path            text COLLATE "C" NOT NULL,
  subscription_id text COLLATE "C" NOT NULL,
  is_explicit     boolean NOT NULL,
  is_glob         boolean NOT NULL,
  -- An offset, or '-1': nothing yet.
  acked           text COLLATE "C" NOT NULL,
  PRIMARY KEY (tenant_id, path, subscription_id),
  FOREIGN KEY (tenant_id, subscription_id) REFERENCES subscriptions (tenant_id, id) ON DELETE CASCADE
) WITH (fillfactor = 80);
CREATE INDEX subscription_links_by_subscription ON subscription_links (tenant_id, subscription_id);

-- At most one token writes to a main stream. The token itself is nowhere (spec/06 §8).
CREATE TABLE write_tokens (
  tenant_id       text NOT NULL,
  path            text COLLATE "C" NOT NULL,
  token_hash      bytea NOT NULL,
  wake_id         text COLLATE "C" NOT NULL,
  PRIMARY KEY (tenant_id, path)
);
CREATE INDEX write_tokens_by_wake ON write_tokens (tenant_id, wake_id);

-- The tables of spec/06 §10, as clients see them.

CREATE TABLE consumer_claims (
  tenant_id         text NOT NULL DEFAULT 'default',
  consumer_id       text COLLATE "C" NOT NULL,
  epoch             int8 NOT NULL,
  wake_id           text COLLATE "C" NOT NULL,
  entity_url        text COLLATE "C",
  stream_path       text COLLATE "C" NOT NULL,
  runner_id         text COLLATE "C",
  status            text NOT NULL CHECK (status IN ('active', 'released', 'expired', 'failed')),
  claimed_at        timestamptz NOT NULL,
  last_heartbeat_at timestamptz,
  lease_expires_at  timestamptz,
  released_at       timestamptz,
  acked_streams     jsonb,
  updated_at        timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, consumer_id, epoch)
) WITH (fillfactor = 70);
CREATE INDEX consumer_claims_active ON consumer_claims (tenant_id, entity_url) WHERE status = 'active';
CREATE INDEX consumer_claims_by_runner ON consumer_claims (tenant_id, runner_id) WHERE status = 'active' AND runner_id IS NOT NULL;
CREATE INDEX consumer_claims_by_age ON consumer_claims (updated_at) WHERE status <> 'active';

CREATE TABLE entity_dispatch_state (
  tenant_id                   text NOT NULL DEFAULT 'default',
  entity_url                  text COLLATE "C" NOT NULL,
  pending_source_streams      jsonb NOT NULL DEFAULT '[]',
  pending_reason              text,
  pending_since               timestamptz,
  outstanding_wake_id         text COLLATE "C",
  outstanding_wake_target     text,
  outstanding_wake_created_at timestamptz,
  active_consumer_id          text COLLATE "C",
  active_runner_id            text COLLATE "C",
  active_epoch                int8,
  active_claimed_at           timestamptz,
  active_lease_expires_at     timestamptz,
  last_wake_id                text COLLATE "C",
  last_claimed_at             timestamptz,
  last_released_at            timestamptz,
  last_completed_at           timestamptz,
  last_error                  text,
  updated_at                  timestamptz NOT NULL DEFAULT now(),
  -- The highest generation that any wake of the entity had: a subscription made anew goes on from there.
  last_epoch                  int8 NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant_id, entity_url)
) WITH (fillfactor = 70);
CREATE INDEX entity_dispatch_state_by_runner ON entity_dispatch_state (tenant_id, active_runner_id) WHERE active_runner_id IS NOT NULL;

CREATE TABLE wake_notifications (
  tenant_id                 text NOT NULL DEFAULT 'default',
  wake_id                   text COLLATE "C" NOT NULL,
  entity_url                text COLLATE "C",
  target_type               text NOT NULL CHECK (target_type IN ('webhook', 'runner', 'worker-pool')),
  target_runner_id          text COLLATE "C",
  target_webhook_url        text,
  target_worker_pool_id     text COLLATE "C",
  runner_wake_stream        text COLLATE "C",
  runner_wake_stream_offset text COLLATE "C",
  notification_public       jsonb,
  delivery_status           text NOT NULL CHECK (delivery_status IN ('queued', 'delivered', 'failed', 'superseded')),
  claim_status              text NOT NULL CHECK (claim_status IN ('unclaimed', 'claimed', 'completed', 'expired')),
  created_at                timestamptz NOT NULL DEFAULT now(),
  delivered_at              timestamptz,
  claimed_at                timestamptz,
  resolved_at               timestamptz,
  subscription_id           text COLLATE "C" NOT NULL,
  generation                int8 NOT NULL,
  -- Of a dead letter: why, after how many deliveries, and what had been acked of each stream.
  last_error                text,
  attempts                  int4,
  acked_before              jsonb,
  PRIMARY KEY (tenant_id, wake_id)
) WITH (fillfactor = 70);
CREATE INDEX wake_notifications_dead ON wake_notifications (tenant_id, resolved_at) WHERE delivery_status = 'failed';
CREATE INDEX wake_notifications_by_age ON wake_notifications (created_at);

-- Runs that have begun and not ended are projected too: whoever finds their handler dead closes them.
ALTER TABLE projections DROP CONSTRAINT projections_type_check;
ALTER TABLE projections ADD CONSTRAINT projections_type_check CHECK (type IN ('manifest', 'child_status', 'replay_watermark', 'run'));

-- What every process of a deployment must know alike.
CREATE TABLE settings (
  tenant_id text NOT NULL,
  name      text COLLATE "C" NOT NULL,
  value     text NOT NULL,
  PRIMARY KEY (tenant_id, name)
);
