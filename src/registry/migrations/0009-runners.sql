-- Processes that pull wakes (spec/07 §1). Columns that clients see through shapes have the names and types of spec/13 §1.
CREATE TABLE runners (
  tenant_id        text NOT NULL DEFAULT 'default',
  id               text COLLATE "C" NOT NULL,
  owner_principal  text COLLATE "C" NOT NULL,
  label            text NOT NULL,
  kind             text NOT NULL DEFAULT 'local' CHECK (kind IN ('local', 'cloud-worker', 'sandbox', 'ci', 'server')),
  admin_status     text NOT NULL DEFAULT 'enabled' CHECK (admin_status IN ('enabled', 'disabled')),
  wake_stream      text COLLATE "C" NOT NULL,
  sandbox_profiles jsonb NOT NULL DEFAULT '[]',
  created_at       timestamptz NOT NULL DEFAULT now(),
  updated_at       timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id),
  UNIQUE (tenant_id, wake_stream)
);
CREATE INDEX runners_by_owner ON runners (tenant_id, owner_principal, created_at DESC, id);

-- What heartbeats say; apart from `runners`, whose shape stays quiet.
CREATE TABLE runner_runtime_diagnostics (
  tenant_id                 text NOT NULL DEFAULT 'default',
  runner_id                 text COLLATE "C" NOT NULL,
  owner_principal           text COLLATE "C" NOT NULL,
  wake_stream_offset        text,
  last_seen_at              timestamptz NOT NULL,
  liveness_lease_expires_at timestamptz NOT NULL,
  diagnostics               jsonb,
  updated_at                timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, runner_id),
  FOREIGN KEY (tenant_id, runner_id) REFERENCES runners (tenant_id, id) ON DELETE CASCADE
) WITH (fillfactor = 50);
