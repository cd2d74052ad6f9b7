-- Without the tenant: to a planner that believes a table empty, an index that has the tenant looks as good as the primary key, whatever the key.
CREATE INDEX write_tokens_of_wake ON write_tokens (wake_id);
DROP INDEX write_tokens_by_wake;
CREATE INDEX waiters_of_workflow ON waiters (workflow_id);
DROP INDEX waiters_by_workflow;
-- Before a pattern links a new stream: is that where a runner's wakes are announced?
CREATE INDEX runners_by_wake_stream ON runners (wake_stream);
