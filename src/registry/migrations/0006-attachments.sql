-- Attachments whose stream and manifest row are not one yet: being stored, or being removed. After the deadline `sweep` removes the stream.
CREATE TABLE attachment_claims (
  tenant_id  text NOT NULL,
  path       text COLLATE "C" NOT NULL,
  -- Whose step this is: only it may finish.
  claimed_by text COLLATE "C" NOT NULL,
  deadline   timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, path)
);
CREATE INDEX attachment_claims_by_deadline ON attachment_claims (deadline);
