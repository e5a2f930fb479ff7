-- A job is written once; where it stands is told by the one table that holds its id:
-- ready (pending), an open place of claims (running), done, dead_letters (failed) or cancelled.
-- Times are milliseconds since 1970 by this database's clock.

CREATE FUNCTION now_ms() RETURNS bigint LANGUAGE sql VOLATILE PARALLEL SAFE
  RETURN (extract(epoch FROM clock_timestamp()) * 1000)::bigint;

-- From which schema level on a server may use this schema: one that is older refuses to start.
CREATE TABLE schema_compat (
  min_server_level integer NOT NULL
);
INSERT INTO schema_compat VALUES (1);

-- A job's facts. Never updated. created_at is the first 48 bits of the id.
CREATE TABLE jobs (
  id uuid PRIMARY KEY,
  worker_id text NOT NULL,
  task text NOT NULL,
  priority smallint NOT NULL,
  run_at bigint NOT NULL,
  payload bytea NOT NULL,
  max_retries smallint NOT NULL,
  retry text,
  attempt_timeout bigint,
  idempotency_key text
);
CREATE INDEX jobs_by_worker_id ON jobs (worker_id, id);

-- Pending jobs. Never updated: a change is a delete and an insert.
CREATE TABLE ready (
  worker_id text NOT NULL,
  id uuid PRIMARY KEY,
  priority smallint NOT NULL,
  run_at bigint NOT NULL,
  run_no integer NOT NULL,
  used integer NOT NULL,
  payload_bytes integer NOT NULL,
  since bigint NOT NULL,
  waits_for_handler boolean NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off);
CREATE INDEX ready_in_order ON ready (worker_id, priority, run_at, id);

-- The open places of one batch that one session took; ids and places as store/places.rs writes them.
CREATE TABLE claims (
  id uuid PRIMARY KEY,
  worker_id text NOT NULL,
  session_id uuid NOT NULL,
  acquire_no integer NOT NULL,
  chunk smallint NOT NULL,
  claimed_at bigint NOT NULL,
  deadline bigint,
  ids bytea NOT NULL,
  places bytea NOT NULL,
  UNIQUE (session_id, acquire_no, chunk)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off);
CREATE INDEX claims_by_deadline ON claims (deadline) WHERE deadline IS NOT NULL;

-- Insert only, but for deletions: a row for each settle and claim; its ids are at most a second apart.
CREATE TABLE done (
  worker_id text NOT NULL,
  first_id uuid NOT NULL,
  claim_id uuid NOT NULL,
  session_id uuid NOT NULL,
  claimed_at bigint NOT NULL,
  finished_at bigint NOT NULL,
  ids bytea NOT NULL,
  runs bytea
);
CREATE INDEX done_by_id ON done (worker_id, first_id);
CREATE INDEX done_by_worker_id ON done (worker_id, finished_at);
CREATE INDEX done_by_time ON done (finished_at);

-- A whole copy of each job that failed for good.
CREATE TABLE dead_letters (
  id uuid PRIMARY KEY,
  worker_id text NOT NULL,
  task text NOT NULL,
  priority smallint NOT NULL,
  run_at bigint NOT NULL,
  payload bytea NOT NULL,
  max_retries smallint NOT NULL,
  retry text,
  attempt_timeout bigint,
  idempotency_key text,
  run_no integer NOT NULL,
  used integer NOT NULL,
  reason smallint NOT NULL,
  error text NOT NULL,
  fingerprint bigint NOT NULL,
  session_id uuid,
  started_at bigint,
  failed_at bigint NOT NULL
);
CREATE INDEX dead_letters_by_worker_id ON dead_letters (worker_id, failed_at, id);
CREATE INDEX dead_letters_by_time ON dead_letters (failed_at, id);

CREATE TABLE cancelled (
  id uuid PRIMARY KEY,
  worker_id text NOT NULL,
  run_no integer NOT NULL,
  used integer NOT NULL,
  cancelled_at bigint NOT NULL,
  note text NOT NULL,
  session_id uuid,
  started_at bigint
);
CREATE INDEX cancelled_by_worker_id ON cancelled (worker_id, cancelled_at, id);
CREATE INDEX cancelled_by_time ON cancelled (cancelled_at, id);

-- What happened besides success.
CREATE TABLE attempts (
  job_id uuid NOT NULL,
  run_no integer NOT NULL,
  outcome smallint NOT NULL,
  claim_id uuid,
  session_id uuid,
  host text NOT NULL,
  started_at bigint,
  ended_at bigint NOT NULL,
  error text NOT NULL,
  PRIMARY KEY (job_id, run_no, outcome)
);

-- What a handler returned, if it did, and what else there is to say.
CREATE TABLE results (
  id uuid PRIMARY KEY,
  result bytea,
  note text NOT NULL
);

-- The last report of a running attempt.
CREATE TABLE progress (
  id uuid PRIMARY KEY,
  run_no integer NOT NULL,
  fraction double precision NOT NULL,
  message text NOT NULL,
  at bigint NOT NULL
);

-- Leases that somebody else ended while their session held them: its heartbeat says so.
CREATE TABLE stops (
  session_id uuid NOT NULL,
  claim_id uuid NOT NULL,
  job_id uuid NOT NULL,
  reason smallint NOT NULL,
  PRIMARY KEY (session_id, claim_id, job_id)
);

CREATE TABLE sessions (
  id uuid PRIMARY KEY,
  worker_id text NOT NULL,
  host text NOT NULL,
  pid integer NOT NULL,
  version text NOT NULL,
  tasks text NOT NULL,
  slots integer NOT NULL,
  lease bigint NOT NULL,
  started_at bigint NOT NULL,
  heartbeat_at bigint NOT NULL,
  expires_at bigint NOT NULL,
  draining boolean NOT NULL,
  ended_at bigint,
  lost boolean NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX sessions_live ON sessions (worker_id) WHERE ended_at IS NULL;
CREATE INDEX sessions_ended ON sessions (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE idempotency_keys (
  worker_id text NOT NULL,
  key text NOT NULL,
  job_id uuid NOT NULL,
  request_hash bytea NOT NULL,
  -- When the job was pruned, if the key is to outlive it.
  gone_at bigint,
  PRIMARY KEY (worker_id, key)
);
CREATE INDEX idempotency_keys_by_job ON idempotency_keys (job_id);

-- Changes that are not yet part of counters and series. A reader adds the two up in one statement.
CREATE TABLE deltas (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  worker_id text NOT NULL,
  bucket bigint NOT NULL,
  minute bigint NOT NULL,
  first integer NOT NULL,
  retry integer NOT NULL,
  running integer NOT NULL,
  done integer NOT NULL,
  failed integer NOT NULL,
  cancelled integer NOT NULL,
  submitted integer NOT NULL,
  completed integer NOT NULL,
  died integer NOT NULL,
  retried integer NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off);

-- How many jobs are where. bucket: until when pending ones count as scheduled or retrying; 0 for all else.
CREATE TABLE counters (
  worker_id text NOT NULL,
  bucket bigint NOT NULL,
  first bigint NOT NULL,
  retry bigint NOT NULL,
  running bigint NOT NULL,
  done bigint NOT NULL,
  failed bigint NOT NULL,
  cancelled bigint NOT NULL,
  PRIMARY KEY (worker_id, bucket)
) WITH (fillfactor = 70);

-- What happened in a minute.
CREATE TABLE series (
  minute bigint NOT NULL,
  worker_id text NOT NULL,
  submitted bigint NOT NULL,
  completed bigint NOT NULL,
  died bigint NOT NULL,
  retried bigint NOT NULL,
  PRIMARY KEY (minute, worker_id)
) WITH (fillfactor = 70);
