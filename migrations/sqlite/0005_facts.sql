-- What a worker is told of a new job, as server/src/store/facts.rs writes it: handing the job out then reads one row
-- instead of two. NULL where it is too much, where the job has been handed out before, and where an older server wrote it.
ALTER TABLE ready ADD COLUMN facts blob;
