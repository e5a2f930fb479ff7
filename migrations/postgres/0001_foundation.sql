-- A job is written to `jobs` once. Its state is given by the one of these tables that holds its id: ready (pending),
-- claims (running, an open entry), done, dead_letters (failed) or cancelled.
--
-- Times are milliseconds since 1970 by this database's clock.

CREATE FUNCTION now_ms() RETURNS bigint LANGUAGE sql VOLATILE PARALLEL SAFE
  RETURN (extract(epoch FROM clock_timestamp()) * 1000)::bigint;

-- Minimum schema level of a server that may use this schema. An older server refuses to start.
CREATE TABLE schema_compat (
  min_server_level integer NOT NULL
);
INSERT INTO schema_compat VALUES (1);

-- Jobs as they were submitted. Only the priority is ever updated, by operations. created_at is the first 48 bits of the id. Partitioned by the time in the
-- id, so that a day of old jobs can be dropped as a whole; servers cut days off the newest partition, which takes all
-- ids that are newer still. There is no DEFAULT partition, because attaching a partition beside one reads all of it.
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
) PARTITION BY RANGE (id);
CREATE INDEX jobs_by_worker_id ON jobs (worker_id, id);

-- The first partition ends with tomorrow (UTC).
DO $$
DECLARE
  day constant bigint := 86400000;
  until constant uuid := rpad(lpad(to_hex((now_ms() / day + 2) * day), 12, '0'), 32, '0')::uuid;
BEGIN
  EXECUTE format('CREATE TABLE jobs_before PARTITION OF jobs FOR VALUES FROM (MINVALUE) TO (%L)', until);
  EXECUTE format('CREATE TABLE jobs_after PARTITION OF jobs FOR VALUES FROM (%L) TO (MAXVALUE)', until);
END $$;

-- Pending jobs. Never updated: a change is a delete and an insert.
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
  id uuid NOT NULL,
  priority smallint NOT NULL,
  run_at bigint NOT NULL,
  run_no integer NOT NULL,
  attempts_used integer NOT NULL,
  payload_bytes integer NOT NULL,
  enqueued_at bigint NOT NULL,
  waits_for_handler boolean NOT NULL,
  for_task text,
  inline_job bytea
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off);
CREATE UNIQUE INDEX ready_in_order ON ready (worker_id, priority, run_at, id);
CREATE UNIQUE INDEX ready_by_id ON ready (id) WHERE inline_job IS NULL;
CREATE INDEX ready_for_task ON ready (worker_id, for_task, priority, run_at, id) WHERE for_task IS NOT NULL;
CREATE INDEX ready_no_handler ON ready (worker_id) WHERE waits_for_handler;

-- Packed claims: a row holds the open entries of one batch that one session took, up to 64 jobs. ids and entries are
-- written by server/store/src/rows/packed_claim.rs.
CREATE TABLE claims (
  id uuid PRIMARY KEY,
  worker_id text NOT NULL,
  session_id uuid NOT NULL,
  acquire_no integer NOT NULL,
  chunk smallint NOT NULL,
  claimed_at bigint NOT NULL,
  deadline bigint,
  ids bytea NOT NULL,
  entries bytea NOT NULL,
  UNIQUE (session_id, acquire_no, chunk)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off);
CREATE INDEX claims_by_deadline ON claims (deadline) WHERE deadline IS NOT NULL;

-- Done jobs: one row for each settle and claim, with ids that are at most a second apart. Rows change only when jobs
-- are deleted.
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

-- Dead letters: a whole copy of each job that failed for good.
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
  attempts_used integer NOT NULL,
  reason smallint NOT NULL,
  error text NOT NULL,
  fingerprint bigint NOT NULL,
  session_id uuid,
  started_at bigint,
  failed_at bigint NOT NULL
);
CREATE INDEX dead_letters_by_worker_id ON dead_letters (worker_id, failed_at, id);
CREATE INDEX dead_letters_by_time ON dead_letters (failed_at, id);
CREATE INDEX dead_letters_by_error_group ON dead_letters (fingerprint, failed_at, id);

CREATE TABLE cancelled (
  id uuid PRIMARY KEY,
  worker_id text NOT NULL,
  run_no integer NOT NULL,
  attempts_used integer NOT NULL,
  cancelled_at bigint NOT NULL,
  note text NOT NULL,
  session_id uuid,
  started_at bigint
);
CREATE INDEX cancelled_by_worker_id ON cancelled (worker_id, cancelled_at, id);
CREATE INDEX cancelled_by_time ON cancelled (cancelled_at, id);

-- History of jobs besides success: attempts that did not complete their job, refusals, and retries by a person.
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
  -- Error group of a failed attempt.
  fingerprint bigint,
  PRIMARY KEY (job_id, run_no, outcome)
);

-- Results and notes of done jobs: result is what the handler returned, if anything.
CREATE TABLE results (
  id uuid PRIMARY KEY,
  result bytea,
  note text NOT NULL
);

-- Jobs that were copied from other jobs. The other job may be gone.
CREATE TABLE origins (
  id uuid PRIMARY KEY,
  origin uuid NOT NULL
);
CREATE INDEX origins_by_origin ON origins (origin, id);

-- Last progress report of each job, with the run that made it.
CREATE TABLE progress (
  id uuid PRIMARY KEY,
  run_no integer NOT NULL,
  fraction double precision NOT NULL,
  message text NOT NULL,
  at bigint NOT NULL
);

-- Leases that were ended by others, by a cancel or a timeout, while their session held them. Its heartbeat answers with
-- them.
CREATE TABLE stops (
  session_id uuid NOT NULL,
  claim_id uuid NOT NULL,
  job_id uuid NOT NULL,
  reason smallint NOT NULL,
  PRIMARY KEY (session_id, claim_id, job_id)
);

-- Sessions: runs of worker processes. held: ids of the jobs that a session held when it ended, as
-- server/store/src/rows/packed_claim.rs writes them, in the order in which it took them; the first `slots` of them count as
-- started.
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
  lost boolean NOT NULL,
  held bytea
) WITH (fillfactor = 50);
CREATE INDEX sessions_live ON sessions (worker_id) WHERE ended_at IS NULL;
CREATE INDEX sessions_ended ON sessions (ended_at) WHERE ended_at IS NOT NULL;

-- Time up to which some server could hear sessions, in one row. Time without such a server does not count as a
-- session's silence.
CREATE TABLE heard_until (
  until bigint NOT NULL
);
INSERT INTO heard_until VALUES (now_ms());

-- Pauses: worker_ids whose jobs are not handed out until a person resumes them.
CREATE TABLE pauses (
  worker_id text PRIMARY KEY,
  paused_at bigint NOT NULL,
  reason text NOT NULL
);

-- Operations: actions on all jobs that match a filter. spec is the OperationSpec of the API, encoded,
-- and brief the part of its Operation that answers show and that never changes; progress is where the server that runs
-- it has got to, as server/src/queue/operate/operations/progress.rs writes it. The transaction that
-- changes jobs also advances progress and counts.
--
-- runner: token of the task that runs it; only its writes are accepted. Another task takes over after lease_until.
CREATE TABLE operations (
  id uuid PRIMARY KEY,
  request_id text UNIQUE,
  request_hash bytea NOT NULL,
  spec bytea NOT NULL,
  brief bytea NOT NULL,
  state smallint NOT NULL,
  note text NOT NULL,
  caller text NOT NULL,
  started_at bigint NOT NULL,
  updated_at bigint NOT NULL,
  finished_at bigint,
  total bigint,
  total_is_floor boolean NOT NULL,
  changed bigint NOT NULL,
  refused bigint NOT NULL,
  progress text NOT NULL,
  runner uuid,
  lease_until bigint NOT NULL,
  -- Time before which a rate allows no further change.
  next_at bigint NOT NULL
) WITH (fillfactor = 50);
-- states 1 and 2: running, canary_waiting
CREATE INDEX operations_to_run ON operations (id) WHERE state <= 2;
CREATE INDEX operations_finished ON operations (finished_at) WHERE finished_at IS NOT NULL;

-- The first jobs that an operation could not change. state: state of the job, NULL if it was gone. later: the job came
-- into its state after the operation had started.
CREATE TABLE operation_refusals (
  operation_id uuid NOT NULL,
  n integer NOT NULL,
  job_id uuid NOT NULL,
  state smallint,
  later boolean NOT NULL,
  PRIMARY KEY (operation_id, n)
);

-- Jobs whose outcome decides whether an operation goes on. canary: the job is one of its canary; else of the sample of
-- all that were changed.
CREATE TABLE operation_samples (
  operation_id uuid NOT NULL,
  job_id uuid NOT NULL,
  canary boolean NOT NULL,
  PRIMARY KEY (operation_id, canary, job_id)
);

CREATE TABLE idempotency_keys (
  worker_id text NOT NULL,
  key text NOT NULL,
  job_id uuid NOT NULL,
  request_hash bytea NOT NULL,
  -- Time at which the job was pruned, if the key is to outlive it.
  gone_at bigint,
  PRIMARY KEY (worker_id, key)
);
CREATE INDEX idempotency_keys_by_job ON idempotency_keys (job_id);

-- Counter deltas: changes that compaction has not yet added to counters and series. A reader adds both up in one
-- statement.
CREATE TABLE deltas (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  worker_id text NOT NULL,
  bucket bigint NOT NULL,
  minute bigint NOT NULL,
  first_attempt integer NOT NULL,
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

-- Low watermark of deltas, in one row: all deltas up to this id are part of the counters, and no others can appear.
-- Readers begin behind it, and so do not walk the compacted deltas that stay as dead rows while an old snapshot is
-- held.
CREATE TABLE delta_watermark (
  up_to bigint NOT NULL
);
INSERT INTO delta_watermark VALUES (0);

-- Number of jobs by state. bucket: time up to which pending jobs count as scheduled or retrying; 0 for all other
-- counts.
CREATE TABLE counters (
  worker_id text NOT NULL,
  bucket bigint NOT NULL,
  first_attempt bigint NOT NULL,
  retry bigint NOT NULL,
  running bigint NOT NULL,
  done bigint NOT NULL,
  failed bigint NOT NULL,
  cancelled bigint NOT NULL,
  PRIMARY KEY (worker_id, bucket)
) WITH (fillfactor = 70);

-- Events by minute.
CREATE TABLE series (
  minute bigint NOT NULL,
  worker_id text NOT NULL,
  submitted bigint NOT NULL,
  completed bigint NOT NULL,
  died bigint NOT NULL,
  retried bigint NOT NULL,
  PRIMARY KEY (minute, worker_id)
) WITH (fillfactor = 70);

-- Error groups: failed attempts of one task with the same normalised error. fingerprint: hash of both; 0 is the group of
-- errors for which there was no room. error and job_id are the newest failed attempt's.
--
-- state is a person's decision, made when state_attempts attempts had failed; server/store/src/error_groups/state.rs
-- computes what it means later.
CREATE TABLE error_groups (
  fingerprint bigint PRIMARY KEY,
  task text NOT NULL,
  title text NOT NULL,
  first_seen bigint NOT NULL,
  last_seen bigint NOT NULL,
  attempts bigint NOT NULL,
  dead_letters bigint NOT NULL,
  error text NOT NULL,
  job_id uuid,
  state smallint NOT NULL DEFAULT 1,
  state_attempts bigint NOT NULL DEFAULT 0,
  ignore_until bigint,
  ignore_attempts bigint,
  changed_at bigint,
  note text NOT NULL DEFAULT '',
  link text NOT NULL DEFAULT ''
) WITH (fillfactor = 70);

-- Failed attempts and dead letters of each error group by worker_id.
CREATE TABLE error_worker_ids (
  fingerprint bigint NOT NULL,
  worker_id text NOT NULL,
  attempts bigint NOT NULL,
  dead_letters bigint NOT NULL,
  last_seen bigint NOT NULL,
  PRIMARY KEY (fingerprint, worker_id)
) WITH (fillfactor = 70);
CREATE INDEX error_worker_ids_by_worker_id ON error_worker_ids (worker_id, fingerprint);

-- Failed attempts and jobs that became dead letters of each error group by worker_id and slot. step: length of the slot
-- in milliseconds, a minute or an hour; slot: its number since 1970.
CREATE TABLE error_series (
  fingerprint bigint NOT NULL,
  step bigint NOT NULL,
  slot bigint NOT NULL,
  worker_id text NOT NULL,
  attempts bigint NOT NULL,
  died bigint NOT NULL,
  PRIMARY KEY (fingerprint, step, slot, worker_id)
) WITH (fillfactor = 70);
CREATE INDEX error_series_by_time ON error_series (step, slot);

-- Changes of error groups that are not yet folded into their rows. A reader adds both up in one statement. task, title,
-- error and job_id are empty if no attempt failed.
CREATE TABLE error_deltas (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  fingerprint bigint NOT NULL,
  worker_id text NOT NULL,
  at bigint NOT NULL,
  attempts integer NOT NULL,
  died integer NOT NULL,
  dead_letters integer NOT NULL,
  task text NOT NULL,
  title text NOT NULL,
  error text NOT NULL,
  job_id uuid
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off);

-- Low watermark of error_deltas, in one row, as that of deltas.
CREATE TABLE error_delta_watermark (
  up_to bigint NOT NULL
);
INSERT INTO error_delta_watermark VALUES (0);

-- Direct hand-off: stores new jobs, and claims some of them for sessions whose polls are parked, in one transaction, so
-- that these are never in `ready`. It is a function because its second statement has to see what was committed before
-- its locks, without the server waiting for the reply to each statement.
--
-- Servers call it by its name and parameters as long as they are in use: a function that does something else gets a new
-- name.
--
-- An offer is the acquire_no of a parked poll, and the claim that its session would get. The offer is not taken, and
-- its jobs become ready as all others, if the session is not alive, if its worker_id is paused, or if an acquire with
-- this number is under way or has got jobs. No lock is waited for, because jobs of other callers are in the same group.
-- Each offer taken returns one row.
CREATE FUNCTION store_and_hand_over(
  job_ids uuid[], job_worker_ids text[], tasks text[], priorities smallint[], run_ats bigint[], payloads bytea[],
  most_retries smallint[], retries text[], timeouts bigint[], keys text[], enqueued_ats bigint[], inline_jobs bytea[],
  this_minute bigint, count_worker_ids text[], buckets bigint[], firsts integer[], submits integer[],
  job_offers smallint[], offer_worker_ids text[], session_ids uuid[], acquire_nos integer[], session_locks bigint[], session_halves integer[],
  claim_ids uuid[], claimed_ids bytea[], claimed_entries bytea[], claimed_timeouts bigint[]
) RETURNS TABLE (offer bigint, host text, claimed_at bigint) LANGUAGE plpgsql VOLATILE ROWS 10 AS $$
#variable_conflict use_column
DECLARE
  free_offers bigint[];
BEGIN
  SELECT array_agg(o.n) INTO free_offers
  FROM unnest(session_locks, session_halves, acquire_nos) WITH ORDINALITY AS o(lock, half, acquire_no, n)
  WHERE pg_try_advisory_xact_lock_shared(o.lock) AND pg_try_advisory_xact_lock(o.half, o.acquire_no);

  RETURN QUERY
  WITH offers AS MATERIALIZED (
    SELECT o.*, s.host, s.now
    FROM unnest(offer_worker_ids, session_ids, acquire_nos, claim_ids, claimed_ids, claimed_entries, claimed_timeouts)
         WITH ORDINALITY AS o(worker_id, session_id, acquire_no, claim_id, ids, entries, timeout, n),
         LATERAL (
           SELECT sessions.host, now_ms() AS now FROM sessions
           WHERE sessions.id = o.session_id AND sessions.ended_at IS NULL AND sessions.expires_at > now_ms()
             AND sessions.worker_id = o.worker_id
           FOR KEY SHARE SKIP LOCKED
         ) AS s
    WHERE o.n = ANY(free_offers) AND NOT EXISTS (SELECT FROM pauses WHERE pauses.worker_id = o.worker_id)
  ), claimed AS (
    INSERT INTO claims (id, worker_id, session_id, acquire_no, chunk, claimed_at, deadline, ids, entries)
    SELECT claim_id, worker_id, session_id, acquire_no, 0, now, now + timeout, ids, entries FROM offers
    ON CONFLICT DO NOTHING
    RETURNING id
  ), taken AS MATERIALIZED (
    SELECT n, worker_id, octet_length(ids) / 16 AS jobs, host, now FROM offers WHERE claim_id IN (SELECT id FROM claimed)
  ), new AS MATERIALIZED (
    SELECT * FROM unnest(job_ids, job_worker_ids, tasks, priorities, run_ats, payloads, most_retries, retries, timeouts, keys,
                         enqueued_ats, inline_jobs, job_offers)
    AS t(id, worker_id, task, priority, run_at, payload, max_retries, retry, attempt_timeout, idempotency_key, enqueued_at, inline_job,
         offer)
  ), stored AS (
    INSERT INTO jobs (id, worker_id, task, priority, run_at, payload, max_retries, retry, attempt_timeout, idempotency_key)
    SELECT id, worker_id, task, priority, run_at, payload, max_retries, retry, attempt_timeout, idempotency_key
    FROM new ORDER BY id
  ), waiting AS (
    INSERT INTO ready (worker_id, id, priority, run_at, run_no, attempts_used, payload_bytes, enqueued_at, waits_for_handler, inline_job)
    SELECT worker_id, id, priority, run_at, 0, 0, octet_length(payload), enqueued_at, false, inline_job
    FROM new WHERE offer IS NULL OR offer NOT IN (SELECT n FROM taken)
  ), counted AS (
    INSERT INTO deltas (worker_id, bucket, minute, first_attempt, submitted, retry, running, done, failed, cancelled, completed,
                        died, retried)
    SELECT worker_id, bucket, this_minute, sum(first_attempt), sum(submitted), 0, sum(running), 0, 0, 0, 0, 0, 0
    FROM (
      SELECT worker_id, bucket, first_attempt, submitted, 0 AS running
      FROM unnest(count_worker_ids, buckets, firsts, submits) AS t(worker_id, bucket, first_attempt, submitted)
      UNION ALL
      SELECT worker_id, 0, -jobs, 0, jobs FROM taken
    ) AS counts
    GROUP BY worker_id, bucket
  )
  SELECT n, host, now FROM taken;
END $$;

-- Time up to which the clock was found right for pruning, in one row. After a jump of the clock since then, pruning
-- waits.
CREATE TABLE pruning (
  confirmed_at bigint NOT NULL
);
INSERT INTO pruning VALUES (now_ms());
