-- A row with facts has the key that `jobs` tells (worker_id, priority, run_at, id), and is found by it; the table is the
-- index in that order. By their ids only those without are looked for, which came back with another run_at, or are large.
--
-- A server that is older, started on this file, looks all up by their ids: it reads all that waits for it.
CREATE TABLE ready_next (
  worker_id text NOT NULL,
  id blob NOT NULL,
  priority integer NOT NULL,
  run_at integer NOT NULL,
  run_no integer NOT NULL,
  used integer NOT NULL,
  payload_bytes integer NOT NULL,
  since integer NOT NULL,
  waits_for_handler integer NOT NULL,
  facts blob,
  PRIMARY KEY (worker_id, priority, run_at, id)
) STRICT, WITHOUT ROWID;
INSERT INTO ready_next (worker_id, id, priority, run_at, run_no, used, payload_bytes, since, waits_for_handler, facts)
SELECT worker_id, id, priority, run_at, run_no, used, payload_bytes, since, waits_for_handler, facts FROM ready
ORDER BY worker_id, priority, run_at, id;
DROP TABLE ready;
ALTER TABLE ready_next RENAME TO ready;
CREATE UNIQUE INDEX ready_by_id ON ready (id) WHERE facts IS NULL;
