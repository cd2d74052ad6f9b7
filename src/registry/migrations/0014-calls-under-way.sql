-- A webhook is being called, and answers, or runs out of time, until then. Null: it is not, or the call has failed. It counts while no lease runs.
ALTER TABLE subscriptions ADD COLUMN called_until timestamptz;
