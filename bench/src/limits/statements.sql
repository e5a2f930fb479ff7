-- Statements of the store, bare: no parameters over the wire, no Rust, no checks. The server is compared with them. The
-- functions work on the tables as the server's migrations make them.
CREATE FUNCTION bench_id() RETURNS uuid LANGUAGE sql VOLATILE AS $$
  SELECT encode(substring(int8send(now_ms()) FROM 3) || substring(uuid_send(gen_random_uuid()) FROM 7), 'hex')::uuid
$$;

CREATE FUNCTION bench_delta(w text, bucket bigint, first int, running int, done int, submitted int) RETURNS void LANGUAGE sql AS $$
  INSERT INTO deltas (worker_id, bucket, minute, first_attempt, retry, running, done, failed, cancelled, submitted, completed, died, retried)
  VALUES (w, bucket, now_ms() / 60000, first, 0, running, done, 0, 0, submitted, done, 0, 0)
$$;

CREATE FUNCTION bench_submit(n int, w text) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
  now bigint := now_ms();
BEGIN
  WITH new AS MATERIALIZED (
    SELECT bench_id() AS id FROM generate_series(1, n) ORDER BY 1
  ), stored AS (
    INSERT INTO jobs (id, worker_id, task, priority, run_at, payload, max_retries)
    SELECT id, w, 'bench', 5, now, convert_to(rpad('{"n":1,"pad":"', 62, 'x') || '"}', 'UTF8'), 3 FROM new
    RETURNING id
  )
  INSERT INTO ready (worker_id, id, priority, run_at, run_no, attempts_used, payload_bytes, enqueued_at, waits_for_handler)
  SELECT w, id, 5, now, 0, 0, 64, now, false FROM stored;
  PERFORM bench_delta(w, 0, n, 0, 0, n);
  RETURN n;
END
$$;

-- The session's setting stands for the scan cursor that the server remembers: the whole key of the last row dequeued.
CREATE FUNCTION bench_acquire(n int, w text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  scan_cursor text[] := string_to_array(
    coalesce(nullif(current_setting('bench.scan_cursor', true), ''), '0|00000000-0000-0000-0000-000000000000'), '|');
  cursor_at bigint := scan_cursor[1];
  cursor_id uuid := scan_cursor[2];
  now bigint := now_ms();
  session uuid := gen_random_uuid();
  taken uuid[];
  last text;
  bytes bigint;
  made uuid[];
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true);
  WITH gone AS (
    DELETE FROM ready WHERE ctid = ANY(ARRAY(
      SELECT ctid FROM ready
      WHERE worker_id = w AND priority = 5 AND run_at <= now AND (run_at, id) > (cursor_at, cursor_id)
      ORDER BY run_at, id LIMIT n FOR UPDATE SKIP LOCKED))
    RETURNING id, run_at
  )
  SELECT array_agg(id ORDER BY id), max(run_at || '|' || id) INTO taken, last FROM gone;
  IF taken IS NULL THEN
    RETURN '{}';
  END IF;
  PERFORM set_config('bench.scan_cursor', last, false);
  SELECT sum(octet_length(payload)) INTO bytes FROM jobs
  WHERE id = ANY(taken) AND id BETWEEN taken[1] AND taken[array_upper(taken, 1)];
  WITH chunks AS (
    SELECT (place - 1) / 64 AS chunk, string_agg(uuid_send(id), ''::bytea ORDER BY place) AS ids, count(*)::int AS entries
    FROM unnest(taken) WITH ORDINALITY AS t(id, place) GROUP BY 1
  ), written AS (
    INSERT INTO claims (id, worker_id, session_id, acquire_no, chunk, claimed_at, ids, entries)
    SELECT gen_random_uuid(), w, session, 1, chunk, now, ids, decode(repeat('0100000001000000000000', entries), 'hex') FROM chunks
    RETURNING id
  )
  SELECT array_agg(id) INTO made FROM written;
  PERFORM bench_delta(w, 0, -cardinality(taken), cardinality(taken), 0, 0);
  RETURN made::text;
END
$$;

CREATE FUNCTION bench_settle(taken uuid[], w text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  now bigint := now_ms();
  settled bigint;
BEGIN
  WITH closed AS (
    DELETE FROM claims WHERE id = ANY(taken) RETURNING id, session_id, claimed_at, ids
  ), written AS (
    INSERT INTO done (worker_id, first_id, claim_id, session_id, claimed_at, finished_at, ids)
    SELECT w, encode(substring(ids FROM 1 FOR 16), 'hex')::uuid, id, session_id, claimed_at, now, ids FROM closed
    RETURNING octet_length(ids) / 16 AS jobs
  )
  SELECT coalesce(sum(jobs), 0) INTO settled FROM written;
  PERFORM bench_delta(w, 0, 0, -settled::int, settled::int, 0);
  RETURN settled;
END
$$;
