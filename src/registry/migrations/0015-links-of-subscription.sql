-- One link of a subscription is looked up by its whole key, and to a planner that believes the table empty this index looks as good as the key: it read all
-- links of the subscription for each of those that were acked. So it leads to one link too.
CREATE INDEX subscription_links_of_subscription ON subscription_links (tenant_id, subscription_id, path);
DROP INDEX subscription_links_by_subscription;
