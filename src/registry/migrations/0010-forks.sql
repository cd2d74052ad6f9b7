-- Who waits for which entity to come to rest. Written while the entity's row is locked; removed by the operation that waits.
CREATE TABLE waiters (
  tenant_id   text NOT NULL,
  url         text COLLATE "C" NOT NULL,
  workflow_id text COLLATE "C" NOT NULL,
  -- Afterwards nobody waits any more, whatever became of the workflow.
  deadline    timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, url, workflow_id)
);
CREATE INDEX waiters_by_workflow ON waiters (tenant_id, workflow_id);
CREATE INDEX waiters_by_deadline ON waiters (deadline);

-- Outbox: workflows that are to be told that something came to rest. Written with the change, removed once Temporal has taken the signal.
CREATE TABLE waiter_signals (
  id          int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id   text NOT NULL,
  workflow_id text COLLATE "C" NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now()
);

-- With a foreign stream server: entities that are being copied, whose attachments must stay meanwhile.
CREATE TABLE fork_locks (
  tenant_id    text NOT NULL,
  url          text COLLATE "C" NOT NULL,
  -- Who holds it, and why.
  operation_id text COLLATE "C" NOT NULL,
  reason       text NOT NULL,
  deadline     timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, url, operation_id)
);
CREATE INDEX fork_locks_by_operation ON fork_locks (tenant_id, operation_id);
