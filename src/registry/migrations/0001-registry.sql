-- Who exists and what is allowed. Columns that clients see through shapes have the names and types of spec/13 §1.

CREATE TABLE entity_types (
  tenant_id                       text NOT NULL DEFAULT 'default',
  name                            text COLLATE "C" NOT NULL,
  description                     text NOT NULL,
  creation_schema                 jsonb,
  inbox_schemas                   jsonb,
  state_schemas                   jsonb,
  slash_commands                  jsonb,
  externally_writable_collections jsonb,
  serve_endpoint                  text,
  default_dispatch_policy         jsonb,
  revision                        int4 NOT NULL DEFAULT 1,
  created_at                      text NOT NULL,
  updated_at                      text NOT NULL,
  PRIMARY KEY (tenant_id, name)
);

-- Who registered a type may manage it (spec/02 §2.4); grants to others come with the grants feature.
CREATE TABLE entity_type_managers (
  tenant_id   text NOT NULL,
  entity_type text COLLATE "C" NOT NULL,
  principal   text COLLATE "C" NOT NULL,
  PRIMARY KEY (tenant_id, entity_type, principal),
  FOREIGN KEY (tenant_id, entity_type) REFERENCES entity_types (tenant_id, name) ON DELETE CASCADE
);

CREATE TABLE entities (
  tenant_id       text NOT NULL DEFAULT 'default',
  url             text COLLATE "C" NOT NULL,
  type            text COLLATE "C" NOT NULL,
  status          text NOT NULL DEFAULT 'idle'
                  CHECK (status IN ('spawning', 'running', 'idle', 'paused', 'stopping', 'stopped', 'killed')),
  dispatch_policy jsonb,
  tags            jsonb NOT NULL DEFAULT '{}',
  tags_index      text[] NOT NULL DEFAULT '{}',
  spawn_args      jsonb NOT NULL DEFAULT '{}',
  sandbox         jsonb,
  parent          text COLLATE "C",
  created_by      text COLLATE "C",
  type_revision   int4,
  inbox_schemas   jsonb,
  state_schemas   jsonb,
  created_at      int8 NOT NULL,
  updated_at      int8 NOT NULL,
  -- Whose step this row waits for: set while its stream is being made on a foreign stream server, null once it exists for clients.
  reserved_by     text COLLATE "C",
  PRIMARY KEY (tenant_id, url)
) WITH (fillfactor = 80);

CREATE INDEX entities_by_type ON entities (tenant_id, type);
CREATE INDEX entities_by_status ON entities (tenant_id, status);
CREATE INDEX entities_by_parent ON entities (tenant_id, parent);
CREATE INDEX entities_by_creator ON entities (tenant_id, created_by);
CREATE INDEX entities_newest_first ON entities (tenant_id, created_at DESC, url);
CREATE INDEX entities_reserved ON entities (tenant_id, reserved_by) WHERE reserved_by IS NOT NULL;

CREATE TABLE lineage (
  tenant_id      text NOT NULL,
  ancestor_url   text COLLATE "C" NOT NULL,
  descendant_url text COLLATE "C" NOT NULL,
  depth          int4 NOT NULL CHECK (depth >= 0),
  PRIMARY KEY (tenant_id, ancestor_url, descendant_url),
  FOREIGN KEY (tenant_id, descendant_url) REFERENCES entities (tenant_id, url) ON DELETE CASCADE
);
CREATE INDEX lineage_by_descendant ON lineage (tenant_id, descendant_url);

CREATE TABLE users (
  tenant_id     text NOT NULL DEFAULT 'default',
  id            text COLLATE "C" NOT NULL,
  display_name  text,
  email         text,
  avatar_url    text,
  auth_provider text,
  auth_subject  text,
  profile       jsonb NOT NULL DEFAULT '{}',
  metadata      jsonb NOT NULL DEFAULT '{}',
  created_at    timestamptz NOT NULL DEFAULT now(),
  updated_at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id)
);

-- Outcome of an operation: written in the transaction that carried it out, so a repeated attempt answers what the first one did.
CREATE TABLE operations (
  tenant_id    text NOT NULL,
  id           text COLLATE "C" NOT NULL,
  verdicts     jsonb NOT NULL,
  completed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id)
);
CREATE INDEX operations_by_age ON operations (completed_at);

-- Arguments and first messages too large to travel through Temporal; the operation carries the id.
CREATE TABLE operation_payloads (
  tenant_id  text NOT NULL,
  id         text COLLATE "C" NOT NULL,
  payload    text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id)
);
CREATE INDEX operation_payloads_by_age ON operation_payloads (created_at);

-- "About to append to S" on a foreign stream server: repeated by `sweep` until S and its consequences are one (design §4).
CREATE TABLE append_intents (
  tenant_id  text NOT NULL,
  id         text COLLATE "C" NOT NULL,
  -- Taken under the lock of the entity's row: appends that belong to row changes are carried out in the order of the changes.
  ord        int8 GENERATED ALWAYS AS IDENTITY,
  path       text COLLATE "C" NOT NULL,
  body       bytea NOT NULL,
  closes     boolean NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  -- Until then the process that wrote the intent works on it, and nobody else.
  owned_until timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id)
);
CREATE INDEX append_intents_by_deadline ON append_intents (owned_until);
CREATE INDEX append_intents_by_path ON append_intents (tenant_id, path);

-- How far the consequences of a foreign stream have been drawn.
CREATE TABLE stream_progress (
  tenant_id  text NOT NULL,
  path       text COLLATE "C" NOT NULL,
  processed  text COLLATE "C" NOT NULL,
  PRIMARY KEY (tenant_id, path)
);

-- Last value of each manifest, child-status and watermark row of a main stream: what a fork needs without reading the history.
CREATE TABLE projections (
  tenant_id  text NOT NULL,
  entity_url text COLLATE "C" NOT NULL,
  type       text NOT NULL CHECK (type IN ('manifest', 'child_status', 'replay_watermark')),
  key        text COLLATE "C" NOT NULL,
  value      text NOT NULL,
  entry      text COLLATE "C" NOT NULL,
  PRIMARY KEY (tenant_id, entity_url, type, key)
);
