-- A row with facts has the key that `jobs` tells (worker_id, priority, run_at, id), and is found by it. By their ids only
-- those without are looked for, which came back with another run_at, or are large: most jobs are in one index instead of
-- two. Both are unique, since no id is one any more.
--
-- A server that is older looks all up by their ids: it reads an index of all that waits for it, until it is replaced.
ALTER TABLE ready DROP CONSTRAINT ready_pkey;
DROP INDEX ready_in_order;
CREATE UNIQUE INDEX ready_in_order ON ready (worker_id, priority, run_at, id);
CREATE UNIQUE INDEX ready_by_id ON ready (id) WHERE facts IS NULL;
