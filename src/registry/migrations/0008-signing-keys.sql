-- Keys that sign webhooks, shared by all replicas (spec/06 §5). A key is in the published set while its row is here.
CREATE TABLE signing_keys (
  tenant_id     text NOT NULL,
  kid           text COLLATE "C" NOT NULL,
  -- The members `x` and `d` of the JWK.
  public_key    text COLLATE "C" NOT NULL,
  private_key   text COLLATE "C" NOT NULL,
  -- An operator brought it, and an operator ends its turn.
  is_configured bool NOT NULL,
  -- Since when it is published.
  created_at    timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, kid)
);

-- Who signs when: a turn lasts until the next one begins. A key that is configured again has a further turn.
CREATE TABLE signing_turns (
  tenant_id  text NOT NULL,
  number     int8 NOT NULL,
  kid        text COLLATE "C" NOT NULL,
  -- Never earlier than that of a lower number.
  signs_from timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, number),
  FOREIGN KEY (tenant_id, kid) REFERENCES signing_keys (tenant_id, kid)
);
CREATE INDEX signing_turns_by_key ON signing_turns (tenant_id, kid);

-- What the server must know and nobody else: made once, never changed.
CREATE TABLE secrets (
  tenant_id text NOT NULL,
  name      text COLLATE "C" NOT NULL,
  value     bytea NOT NULL,
  PRIMARY KEY (tenant_id, name)
);
