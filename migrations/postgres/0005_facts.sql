-- What a worker is told of a new job, as server/src/store/facts.rs writes it: handing the job out then reads one row
-- instead of two. NULL where it is too much, where the job has been handed out before, and where an older server wrote it.
ALTER TABLE ready ADD COLUMN facts bytea;

-- As in 0004, with facts; servers that are older than this call that one.
CREATE FUNCTION store_and_hand_over(
  job_ids uuid[], job_worker_ids text[], tasks text[], priorities smallint[], run_ats bigint[], payloads bytea[],
  most_retries smallint[], retries text[], timeouts bigint[], keys text[], sinces bigint[], facts_of_jobs bytea[],
  this_minute bigint, count_worker_ids text[], buckets bigint[], firsts integer[], submits integer[],
  job_offers smallint[], offer_worker_ids text[], session_ids uuid[], acquire_nos integer[], session_locks bigint[], session_halves integer[],
  claim_ids uuid[], claimed_ids bytea[], claimed_places bytea[], claimed_timeouts bigint[]
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
    FROM unnest(offer_worker_ids, session_ids, acquire_nos, claim_ids, claimed_ids, claimed_places, claimed_timeouts)
         WITH ORDINALITY AS o(worker_id, session_id, acquire_no, claim_id, ids, places, timeout, n),
         LATERAL (
           SELECT sessions.host, now_ms() AS now FROM sessions
           WHERE sessions.id = o.session_id AND sessions.ended_at IS NULL AND sessions.expires_at > now_ms()
             AND sessions.worker_id = o.worker_id
           FOR KEY SHARE SKIP LOCKED
         ) AS s
    WHERE o.n = ANY(free_offers) AND NOT EXISTS (SELECT FROM worker_ids WHERE worker_ids.worker_id = o.worker_id)
  ), claimed AS (
    INSERT INTO claims (id, worker_id, session_id, acquire_no, chunk, claimed_at, deadline, ids, places)
    SELECT claim_id, worker_id, session_id, acquire_no, 0, now, now + timeout, ids, places FROM offers
    ON CONFLICT DO NOTHING
    RETURNING id
  ), taken AS MATERIALIZED (
    SELECT n, worker_id, octet_length(ids) / 16 AS jobs, host, now FROM offers WHERE claim_id IN (SELECT id FROM claimed)
  ), new AS MATERIALIZED (
    SELECT * FROM unnest(job_ids, job_worker_ids, tasks, priorities, run_ats, payloads, most_retries, retries, timeouts, keys,
                         sinces, facts_of_jobs, job_offers)
    AS t(id, worker_id, task, priority, run_at, payload, max_retries, retry, attempt_timeout, idempotency_key, since, facts,
         offer)
  ), stored AS (
    INSERT INTO jobs (id, worker_id, task, priority, run_at, payload, max_retries, retry, attempt_timeout, idempotency_key)
    SELECT id, worker_id, task, priority, run_at, payload, max_retries, retry, attempt_timeout, idempotency_key
    FROM new ORDER BY id
  ), waiting AS (
    INSERT INTO ready (worker_id, id, priority, run_at, run_no, used, payload_bytes, since, waits_for_handler, facts)
    SELECT worker_id, id, priority, run_at, 0, 0, octet_length(payload), since, false, facts
    FROM new WHERE offer IS NULL OR offer NOT IN (SELECT n FROM taken)
  ), counted AS (
    INSERT INTO deltas (worker_id, bucket, minute, first, submitted, retry, running, done, failed, cancelled, completed,
                        died, retried)
    SELECT worker_id, bucket, this_minute, sum(first), sum(submitted), 0, sum(running), 0, 0, 0, 0, 0, 0
    FROM (
      SELECT worker_id, bucket, first, submitted, 0 AS running
      FROM unnest(count_worker_ids, buckets, firsts, submits) AS t(worker_id, bucket, first, submitted)
      UNION ALL
      SELECT worker_id, 0, -jobs, 0, jobs FROM taken
    ) AS counts
    GROUP BY worker_id, bucket
  )
  SELECT n, host, now FROM taken;
END $$;
