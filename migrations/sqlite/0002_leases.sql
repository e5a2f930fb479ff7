-- worker_ids that hand out no jobs until a person resumes them. A server that is older than this table does not know
-- pauses: started on this file, it hands out jobs of paused worker_ids.
CREATE TABLE worker_ids (
  worker_id text PRIMARY KEY,
  paused_at integer NOT NULL,
  reason text NOT NULL
) STRICT;

-- What a session held when it ended: ids as store/places.rs writes them, in the order in which it took them. The
-- first `slots` of them count as started. A server that is older than this column leaves it empty.
ALTER TABLE sessions ADD COLUMN held blob;
