-- Up to which id all deltas are part of the counters and none can come any more: whoever reads them begins behind it, and
-- walks nothing of what is folded, and dead, behind an old snapshot. A server that does not know it folds as before.
CREATE TABLE deltas_folded (
  up_to bigint NOT NULL
);
INSERT INTO deltas_folded VALUES (0);
