-- Which entries a fork at an earlier event looks for (src/domain/marks.ts): 1 manifest rows, child statuses, watermarks; 2 completed runs.
-- A mark may stand where there is nothing (entries from before this migration are marked by their text), never the other way round.

ALTER TABLE stream_entries ADD COLUMN marks int2 NOT NULL DEFAULT 0;

UPDATE stream_entries e
   SET marks = CASE WHEN position('"type":"manifest"'::bytea IN e.data) > 0 OR position('"type":"child_status"'::bytea IN e.data) > 0
                      OR position('"type":"replay_watermark"'::bytea IN e.data) > 0 THEN 1 ELSE 0 END
             | CASE WHEN position('"status":"completed"'::bytea IN e.data) > 0 AND position('"type":"run"'::bytea IN e.data) > 0 THEN 2 ELSE 0 END
  FROM streams s
 WHERE s.id = e.stream_id AND s.json
   AND (position('"type":"manifest"'::bytea IN e.data) > 0 OR position('"type":"child_status"'::bytea IN e.data) > 0
        OR position('"type":"replay_watermark"'::bytea IN e.data) > 0 OR position('"type":"run"'::bytea IN e.data) > 0);

CREATE INDEX stream_entries_projected ON stream_entries (stream_id, end_offset) WHERE (marks & 1) <> 0;
CREATE INDEX stream_entries_completed_runs ON stream_entries (stream_id, end_offset) WHERE (marks & 2) <> 0;
