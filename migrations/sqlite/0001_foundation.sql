-- A job is written to `jobs` once. Its state is given by the one of these tables that holds its id: ready (pending),
-- claims (running, an open entry), done, dead_letters (failed) or cancelled.
--
-- Times are milliseconds since 1970 by the server's clock, which never runs backwards.

-- Minimum schema level of a server that may use this schema. An older server refuses to start.
CREATE TABLE schema_compat (
  min_server_level integer NOT NULL
) STRICT;
INSERT INTO schema_compat VALUES (1);

-- Jobs as they were submitted. Only the priority is ever updated, by operations. created_at is the first 48 bits of the id.
CREATE TABLE jobs (
  id blob PRIMARY KEY,
  worker_id text NOT NULL,
  task text NOT NULL,
  priority integer NOT NULL,
  run_at integer NOT NULL,
  payload blob NOT NULL,
  max_retries integer NOT NULL,
  retry text,
  attempt_timeout integer,
  idempotency_key text
) STRICT;
CREATE INDEX jobs_by_worker_id ON jobs (worker_id, id);

-- Pending jobs. Never updated: a change is a delete and an insert. The table is the index in the order of work.
--
-- inline_job: a copy of a new job's columns in `jobs`, as server/store/src/rows/inline_job.rs writes it, so that
-- an acquire reads one row instead of two. NULL if the copy would be too large, or if the job has been handed out
-- before. A row with an inline job has the same key (worker_id, priority, run_at, id) as `jobs`, and is found by it;
-- only the others are found by id.
--
-- for_task: the job's task, if a session that does not handle it has given the job back. Until run_at the job goes only
-- to sessions that handle the task; from then on to any.
CREATE TABLE ready (
  worker_id text NOT NULL,
  id blob NOT NULL,
  priority integer NOT NULL,
  run_at integer NOT NULL,
  run_no integer NOT NULL,
  attempts_used integer NOT NULL,
  payload_bytes integer NOT NULL,
  enqueued_at integer NOT NULL,
  waits_for_handler integer NOT NULL,
  for_task text,
  inline_job blob,
  PRIMARY KEY (worker_id, priority, run_at, id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX ready_by_id ON ready (id) WHERE inline_job IS NULL;
CREATE INDEX ready_for_task ON ready (worker_id, for_task, priority, run_at, id) WHERE for_task IS NOT NULL;
CREATE INDEX ready_no_handler ON ready (worker_id) WHERE waits_for_handler;

-- Packed claims: a row holds the open entries of one batch that one session took, up to 64 jobs. ids and entries are
-- written by server/store/src/rows/packed_claim.rs.
CREATE TABLE claims (
  id blob PRIMARY KEY,
  worker_id text NOT NULL,
  session_id blob NOT NULL,
  acquire_no integer NOT NULL,
  chunk integer NOT NULL,
  claimed_at integer NOT NULL,
  deadline integer,
  ids blob NOT NULL,
  entries blob NOT NULL,
  UNIQUE (session_id, acquire_no, chunk)
) STRICT;
CREATE INDEX claims_by_deadline ON claims (deadline) WHERE deadline IS NOT NULL;

-- Done jobs: one row for each settle and claim, with ids that are at most a second apart. Rows change only when jobs
-- are deleted.
CREATE TABLE done (
  worker_id text NOT NULL,
  first_id blob NOT NULL,
  claim_id blob NOT NULL,
  session_id blob NOT NULL,
  claimed_at integer NOT NULL,
  finished_at integer NOT NULL,
  ids blob NOT NULL,
  runs blob
) STRICT;
CREATE INDEX done_by_id ON done (worker_id, first_id);
CREATE INDEX done_by_worker_id ON done (worker_id, finished_at);
CREATE INDEX done_by_time ON done (finished_at);

-- Dead letters: a whole copy of each job that failed for good.
CREATE TABLE dead_letters (
  id blob PRIMARY KEY,
  worker_id text NOT NULL,
  task text NOT NULL,
  priority integer NOT NULL,
  run_at integer NOT NULL,
  payload blob NOT NULL,
  max_retries integer NOT NULL,
  retry text,
  attempt_timeout integer,
  idempotency_key text,
  run_no integer NOT NULL,
  attempts_used integer NOT NULL,
  reason integer NOT NULL,
  error text NOT NULL,
  fingerprint integer NOT NULL,
  session_id blob,
  started_at integer,
  failed_at integer NOT NULL
) STRICT;
CREATE INDEX dead_letters_by_worker_id ON dead_letters (worker_id, failed_at, id);
CREATE INDEX dead_letters_by_time ON dead_letters (failed_at, id);
CREATE INDEX dead_letters_by_error_group ON dead_letters (fingerprint, failed_at, id);

CREATE TABLE cancelled (
  id blob PRIMARY KEY,
  worker_id text NOT NULL,
  run_no integer NOT NULL,
  attempts_used integer NOT NULL,
  cancelled_at integer NOT NULL,
  note text NOT NULL,
  session_id blob,
  started_at integer
) STRICT;
CREATE INDEX cancelled_by_worker_id ON cancelled (worker_id, cancelled_at, id);
CREATE INDEX cancelled_by_time ON cancelled (cancelled_at, id);

-- History of jobs besides success: attempts that did not complete their job, refusals, and retries by a person.
CREATE TABLE attempts (
  job_id blob NOT NULL,
  run_no integer NOT NULL,
  outcome integer NOT NULL,
  claim_id blob,
  session_id blob,
  host text NOT NULL,
  started_at integer,
  ended_at integer NOT NULL,
  error text NOT NULL,
  -- Error group of a failed attempt.
  fingerprint integer,
  PRIMARY KEY (job_id, run_no, outcome)
) STRICT;

-- Results and notes of done jobs: result is what the handler returned, if anything.
CREATE TABLE results (
  id blob PRIMARY KEY,
  result blob,
  note text NOT NULL
) STRICT;

-- Jobs that were copied from other jobs. The other job may be gone.
CREATE TABLE origins (
  id blob PRIMARY KEY,
  origin blob NOT NULL
) STRICT;
CREATE INDEX origins_by_origin ON origins (origin, id);

-- Last progress report of each job, with the run that made it.
CREATE TABLE progress (
  id blob PRIMARY KEY,
  run_no integer NOT NULL,
  fraction real NOT NULL,
  message text NOT NULL,
  at integer NOT NULL
) STRICT;

-- Leases that were ended by others, by a cancel or a timeout, while their session held them. Its heartbeat answers with
-- them.
CREATE TABLE stops (
  session_id blob NOT NULL,
  claim_id blob NOT NULL,
  job_id blob NOT NULL,
  reason integer NOT NULL,
  PRIMARY KEY (session_id, claim_id, job_id)
) STRICT;

-- Sessions: runs of worker processes. held: ids of the jobs that a session held when it ended, as
-- server/store/src/rows/packed_claim.rs writes them, in the order in which it took them; the first `slots` of them count as
-- started.
CREATE TABLE sessions (
  id blob PRIMARY KEY,
  worker_id text NOT NULL,
  host text NOT NULL,
  pid integer NOT NULL,
  version text NOT NULL,
  tasks text NOT NULL,
  slots integer NOT NULL,
  lease integer NOT NULL,
  started_at integer NOT NULL,
  heartbeat_at integer NOT NULL,
  expires_at integer NOT NULL,
  draining integer NOT NULL,
  ended_at integer,
  lost integer NOT NULL,
  held blob
) STRICT;
CREATE INDEX sessions_live ON sessions (worker_id) WHERE ended_at IS NULL;
CREATE INDEX sessions_ended ON sessions (ended_at) WHERE ended_at IS NOT NULL;

-- Time up to which some server could hear sessions, in one row. Time without such a server does not count as a
-- session's silence.
CREATE TABLE heard_until (
  until integer NOT NULL
) STRICT;
INSERT INTO heard_until VALUES (0);

-- Pauses: worker_ids whose jobs are not handed out until a person resumes them.
CREATE TABLE pauses (
  worker_id text PRIMARY KEY,
  paused_at integer NOT NULL,
  reason text NOT NULL
) STRICT;

-- Operations: actions on all jobs that match a filter. spec is the OperationSpec of the API, encoded,
-- and brief the part of its Operation that answers show and that never changes; progress is where the server that runs
-- it has got to, as server/src/queue/operate/operations/progress.rs writes it. The transaction that
-- changes jobs also advances progress and counts.
--
-- runner: token of the task that runs it; only its writes are accepted. Another task takes over after lease_until.
CREATE TABLE operations (
  id blob PRIMARY KEY,
  request_id text UNIQUE,
  request_hash blob NOT NULL,
  spec blob NOT NULL,
  brief blob NOT NULL,
  state integer NOT NULL,
  note text NOT NULL,
  caller text NOT NULL,
  started_at integer NOT NULL,
  updated_at integer NOT NULL,
  finished_at integer,
  total integer,
  total_is_floor integer NOT NULL,
  changed integer NOT NULL,
  refused integer NOT NULL,
  progress text NOT NULL,
  runner blob,
  lease_until integer NOT NULL,
  -- Time before which a rate allows no further change.
  next_at integer NOT NULL
) STRICT;
-- states 1 and 2: running, canary_waiting
CREATE INDEX operations_to_run ON operations (id) WHERE state <= 2;
CREATE INDEX operations_finished ON operations (finished_at) WHERE finished_at IS NOT NULL;

-- The first jobs that an operation could not change. state: state of the job, NULL if it was gone. later: the job came
-- into its state after the operation had started.
CREATE TABLE operation_refusals (
  operation_id blob NOT NULL,
  n integer NOT NULL,
  job_id blob NOT NULL,
  state integer,
  later integer NOT NULL,
  PRIMARY KEY (operation_id, n)
) STRICT;

-- Jobs whose outcome decides whether an operation goes on. canary: the job is one of its canary; else of the sample of
-- all that were changed.
CREATE TABLE operation_samples (
  operation_id blob NOT NULL,
  job_id blob NOT NULL,
  canary integer NOT NULL,
  PRIMARY KEY (operation_id, canary, job_id)
) STRICT;

CREATE TABLE idempotency_keys (
  worker_id text NOT NULL,
  key text NOT NULL,
  job_id blob NOT NULL,
  request_hash blob NOT NULL,
  -- Time at which the job was pruned, if the key is to outlive it.
  gone_at integer,
  PRIMARY KEY (worker_id, key)
) STRICT;
CREATE INDEX idempotency_keys_by_job ON idempotency_keys (job_id);

-- Number of jobs by state, updated in place. bucket: time up to which pending jobs count as scheduled or retrying; 0
-- for all other counts.
CREATE TABLE counters (
  worker_id text NOT NULL,
  bucket integer NOT NULL,
  first_attempt integer NOT NULL,
  retry integer NOT NULL,
  running integer NOT NULL,
  done integer NOT NULL,
  failed integer NOT NULL,
  cancelled integer NOT NULL,
  PRIMARY KEY (worker_id, bucket)
) STRICT;

-- Events by minute.
CREATE TABLE series (
  minute integer NOT NULL,
  worker_id text NOT NULL,
  submitted integer NOT NULL,
  completed integer NOT NULL,
  died integer NOT NULL,
  retried integer NOT NULL,
  PRIMARY KEY (minute, worker_id)
) STRICT;

-- Error groups: failed attempts of one task with the same normalised error. fingerprint: hash of both; 0 is the group of
-- errors for which there was no room. error and job_id are the newest failed attempt's.
--
-- state is a person's decision, made when state_attempts attempts had failed; server/store/src/error_groups/state.rs
-- computes what it means later.
CREATE TABLE error_groups (
  fingerprint integer PRIMARY KEY,
  task text NOT NULL,
  title text NOT NULL,
  first_seen integer NOT NULL,
  last_seen integer NOT NULL,
  attempts integer NOT NULL,
  dead_letters integer NOT NULL,
  error text NOT NULL,
  job_id blob,
  state integer NOT NULL DEFAULT 1,
  state_attempts integer NOT NULL DEFAULT 0,
  ignore_until integer,
  ignore_attempts integer,
  changed_at integer,
  note text NOT NULL DEFAULT '',
  link text NOT NULL DEFAULT ''
) STRICT;

-- Failed attempts and dead letters of each error group by worker_id.
CREATE TABLE error_worker_ids (
  fingerprint integer NOT NULL,
  worker_id text NOT NULL,
  attempts integer NOT NULL,
  dead_letters integer NOT NULL,
  last_seen integer NOT NULL,
  PRIMARY KEY (fingerprint, worker_id)
) STRICT;
CREATE INDEX error_worker_ids_by_worker_id ON error_worker_ids (worker_id, fingerprint);

-- Failed attempts and jobs that became dead letters of each error group by worker_id and slot. step: length of the slot
-- in milliseconds, a minute or an hour; slot: its number since 1970.
CREATE TABLE error_series (
  fingerprint integer NOT NULL,
  step integer NOT NULL,
  slot integer NOT NULL,
  worker_id text NOT NULL,
  attempts integer NOT NULL,
  died integer NOT NULL,
  PRIMARY KEY (fingerprint, step, slot, worker_id)
) STRICT;
CREATE INDEX error_series_by_time ON error_series (step, slot);

-- Time up to which the clock was found right for pruning, in one row. After a jump of the clock since then, pruning
-- waits.
CREATE TABLE pruning (
  confirmed_at integer NOT NULL
) STRICT;
INSERT INTO pruning VALUES (CAST(unixepoch('subsec') * 1000 AS integer));
