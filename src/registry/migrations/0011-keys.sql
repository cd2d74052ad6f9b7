-- To a planner that believes a table empty, every index that begins with the tenant looks as good as the primary key, and so does one that has the key's
-- columns anywhere: it walked all of a tenant's entities by `created_at` to find one by its URL. Of equals Postgres takes the one that was made last.
-- So other indexes keep to the columns that nothing else looks up, or leave the tenant out, and the keys are made last (test/registry/kept-plans).
CREATE INDEX entities_by_age ON entities (tenant_id, created_at DESC);
DROP INDEX entities_newest_first;
ALTER TABLE entities DROP CONSTRAINT entities_pkey CASCADE;
ALTER TABLE entities ADD PRIMARY KEY (tenant_id, url);
ALTER TABLE lineage ADD FOREIGN KEY (tenant_id, descendant_url) REFERENCES entities (tenant_id, url) ON DELETE CASCADE;

CREATE INDEX runners_of_owner ON runners (owner_principal);
DROP INDEX runners_by_owner;
CREATE INDEX runners_by_wake_stream ON runners (wake_stream);
ALTER TABLE runners DROP CONSTRAINT runners_pkey CASCADE;
ALTER TABLE runners ADD PRIMARY KEY (tenant_id, id);
ALTER TABLE runner_runtime_diagnostics ADD FOREIGN KEY (tenant_id, runner_id) REFERENCES runners (tenant_id, id) ON DELETE CASCADE;

CREATE INDEX lineage_of_descendant ON lineage (descendant_url);
DROP INDEX lineage_by_descendant;
CREATE INDEX write_tokens_of_wake ON write_tokens (wake_id);
DROP INDEX write_tokens_by_wake;
CREATE INDEX waiters_of_workflow ON waiters (workflow_id);
DROP INDEX waiters_by_workflow;
