-- Which entities share which state: access to a shared-state stream is derived from these rows (spec/12 §9).
-- No foreign key: a link grants nothing unless its entity is there, and appends must not lock rows of entities.

CREATE TABLE shared_state_links (
  tenant_id       text NOT NULL,
  owner_url       text COLLATE "C" NOT NULL,
  manifest_key    text COLLATE "C" NOT NULL,
  shared_state_id text COLLATE "C" NOT NULL,
  PRIMARY KEY (tenant_id, owner_url, manifest_key)
);
CREATE INDEX shared_state_links_by_id ON shared_state_links (tenant_id, shared_state_id);
