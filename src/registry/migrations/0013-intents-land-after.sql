-- What was drawn of the stream when the intent was written: its entry, if it has landed, stands behind that. Null: behind its beginning.
ALTER TABLE append_intents ADD COLUMN lands_after text COLLATE "C";
