-- Nothing but a key begins with its columns (docs/decisions/0015). A table that nobody has analysed yet has, to the planner, one row for each value of a
-- column: as soon as the key's index had one level more than another that began with the tenant (some 150 entities, until some 1,500), it looked up an entity
-- by walking all of the tenant's, and kept this plan while thousands came. An expression is an index condition only to who writes it.
CREATE INDEX entities_of_type ON entities ((tenant_id || ''), type);
DROP INDEX entities_by_type;
CREATE INDEX entities_of_status ON entities ((tenant_id || ''), status);
DROP INDEX entities_by_status;
CREATE INDEX entities_of_creator ON entities ((tenant_id || ''), created_by);
DROP INDEX entities_by_creator;
CREATE INDEX entities_newest_first ON entities ((tenant_id || ''), created_at DESC);
DROP INDEX entities_by_age;
CREATE INDEX entities_of_parent ON entities (parent);
DROP INDEX entities_by_parent;

-- Here several columns lead to rows. So none of these two tables' keys begins with the tenant either.
ALTER TABLE subscriptions DROP CONSTRAINT subscriptions_pkey CASCADE;
ALTER TABLE subscriptions ADD PRIMARY KEY (id, tenant_id);
ALTER TABLE subscription_links DROP CONSTRAINT subscription_links_pkey;
ALTER TABLE subscription_links ADD PRIMARY KEY (path, tenant_id, subscription_id);
ALTER TABLE subscription_links ADD FOREIGN KEY (tenant_id, subscription_id) REFERENCES subscriptions (tenant_id, id) ON DELETE CASCADE;
CREATE INDEX links_of_subscription ON subscription_links (subscription_id, tenant_id, path);
DROP INDEX subscription_links_of_subscription;

CREATE INDEX lineage_by_descendant ON lineage (descendant_url, tenant_id);
DROP INDEX lineage_of_descendant;

-- Of an expression nothing is known before.
DO $$ BEGIN
  IF EXISTS (SELECT FROM entities) THEN ANALYZE entities; END IF;
END $$;
