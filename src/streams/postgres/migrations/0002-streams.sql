-- Event logs (spec/14 §6). An entry is written under the row lock of its stream, so commit order is offset order.
-- Positions count entries: 1, 2, 3, … without gaps; a fork goes on where its source was cut.

CREATE TABLE streams (
  id              int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id       text COLLATE "C" NOT NULL,
  -- Null: the stream is dead, its path is free, its rows wait for the purge.
  path            text COLLATE "C",
  content_type    text NOT NULL,
  json            boolean NOT NULL,
  tail            int8 NOT NULL,
  closed          boolean NOT NULL,
  -- The producer's request that closed it: its repetition is no conflict.
  closer_id       text COLLATE "C",
  closer_epoch    int8,
  closer_seq      int8,
  last_seq        text COLLATE "C",
  ttl_s           int8,
  -- The instant of expiry: fixed (`expires_at_text`), or moved on by every use (`ttl_s`). Compared with the clock of the database only.
  expires_at      timestamptz,
  expires_at_text text,
  -- Deleted or expired while forks still read it.
  gone_at         timestamptz,
  -- Forks: the direct source keeps all storage of the chain alive; what was asked for makes the request repeatable.
  source_id       int8,
  forked_from     text COLLATE "C",
  fork_offset     int8,
  fork_sub        int8,
  created_at      timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

-- No index on what an append changes (HOT updates); `expires_at` of a stream without expiry stays null.
CREATE UNIQUE INDEX streams_by_path ON streams (tenant_id, path);
CREATE INDEX streams_by_source ON streams (source_id) WHERE source_id IS NOT NULL;
CREATE INDEX streams_by_expiry ON streams (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX streams_dead ON streams (id) WHERE path IS NULL;

-- No foreign key: entries are only written under the lock of their stream's row, and only removed after it died.
CREATE TABLE stream_entries (
  stream_id  int8 NOT NULL,
  end_offset int8 NOT NULL,
  -- As it is sent: JSON items separated by commas and stamped with their offset, else the bytes.
  data       bytea NOT NULL,
  PRIMARY KEY (stream_id, end_offset)
);
ALTER TABLE stream_entries ALTER COLUMN data SET STORAGE EXTERNAL; -- read as often as written: no compression on the way

-- What a fork shows of others, flattened to any depth: entries with from_offset < end_offset <= to_offset.
CREATE TABLE stream_ranges (
  stream_id   int8 NOT NULL,
  storage_id  int8 NOT NULL,
  from_offset int8 NOT NULL,
  to_offset   int8 NOT NULL,
  PRIMARY KEY (stream_id, to_offset)
);

CREATE TABLE stream_producers (
  stream_id   int8 NOT NULL,
  producer_id text COLLATE "C" NOT NULL,
  epoch       int8 NOT NULL,
  last_seq    int8 NOT NULL,
  PRIMARY KEY (stream_id, producer_id)
) WITH (fillfactor = 70);
