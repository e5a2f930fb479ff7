-- jobs in partitions by the time in their ids, so that a day of old jobs can go as a whole. What is there becomes the
-- oldest partition, up to the end of tomorrow (UTC), or of the day of the newest id if that is later; the servers cut
-- days off the newest, which takes whatever is newer still. There is no DEFAULT partition: attaching beside one reads
-- all of it. Servers that are older than this go on as before.
--
-- Attaching reads the old table once; who wants to use it waits as long.
ALTER TABLE jobs RENAME TO jobs_before;
ALTER INDEX jobs_pkey RENAME TO jobs_before_pkey;
ALTER INDEX jobs_by_worker_id RENAME TO jobs_before_by_worker_id;

CREATE TABLE jobs (LIKE jobs_before) PARTITION BY RANGE (id);
ALTER TABLE jobs ADD PRIMARY KEY (id);
CREATE INDEX jobs_by_worker_id ON jobs (worker_id, id);

DO $$
DECLARE
  day constant bigint := 86400000;
  newest_ms constant bigint := coalesce(
    (SELECT ('x' || substr(replace(id::text, '-', ''), 1, 12))::bit(48)::bigint FROM jobs_before ORDER BY id DESC LIMIT 1), 0);
  until_ms constant bigint := greatest(now_ms() / day + 2, newest_ms / day + 1) * day;
  until constant uuid := rpad(lpad(to_hex(until_ms), 12, '0'), 32, '0')::uuid;
BEGIN
  EXECUTE format('ALTER TABLE jobs ATTACH PARTITION jobs_before FOR VALUES FROM (MINVALUE) TO (%L)', until);
  EXECUTE format('CREATE TABLE jobs_after PARTITION OF jobs FOR VALUES FROM (%L) TO (MAXVALUE)', until);
END $$;
