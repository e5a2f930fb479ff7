-- worker_ids that hand out no jobs until a person resumes them. A server that is older than this table does not know
-- pauses: one that still runs beside newer ones goes on handing out jobs of paused worker_ids.
CREATE TABLE worker_ids (
  worker_id text PRIMARY KEY,
  paused_at bigint NOT NULL,
  reason text NOT NULL
);

-- What a session held when it ended: ids as store/places.rs writes them, in the order in which it took them. The
-- first `slots` of them count as started. A server that is older than this column leaves it empty.
ALTER TABLE sessions ADD COLUMN held bytea;
