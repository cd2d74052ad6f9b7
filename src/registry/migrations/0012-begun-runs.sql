-- Runs that an append of a handler begins, and the token that it was taken with: where that is worth nothing any more when the append has landed, nobody
-- else ends them.
ALTER TABLE append_intents ADD COLUMN token_hash bytea, ADD COLUMN runs jsonb;
