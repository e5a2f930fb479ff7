//! Limits of the API. Sizes are in bytes unless the name says otherwise; times are in milliseconds.

/// Default maximum size of a payload.
pub const PAYLOAD_DEFAULT: usize = 256 * 1024;
/// Maximum size of a payload that a server can be configured to accept.
pub const PAYLOAD_MAX: usize = 1024 * 1024;
/// Maximum nesting of arrays and objects in a payload or result.
pub const JSON_DEPTH: usize = 64;
/// Maximum number of jobs in one `SubmitJobs`.
pub const BATCH_JOBS: usize = 500;
/// Maximum size of a gRPC request.
pub const REQUEST_BYTES: usize = 4 * 1024 * 1024;
/// Size at which a page or a batch of jobs ends, payloads and results counted.
pub const REPLY_BYTES: usize = 3 * 1024 * 1024;
pub const WORKER_ID: usize = 100;
pub const TASK: usize = 100;
pub const IDEMPOTENCY_KEY: usize = 255;
/// Maximum of `max_retries`, the number of attempts in all.
pub const MAX_RETRIES: u32 = 100;
pub const MAX_RETRIES_DEFAULT: u32 = 3;
/// Largest priority: jobs of priority 0 are leased first, jobs of this one last.
pub const PRIORITY_LOWEST: u8 = 9;
pub const PRIORITY_DEFAULT: u8 = 5;
/// Maximum of delay, `run_at` (from now), `retry_after`, snooze, retry delays and `attempt_timeout`: a year.
pub const DELAY_MS: i64 = 365 * 24 * 3_600_000;
pub const LEASE_MS_MIN: i64 = 5_000;
pub const LEASE_MS_MAX: i64 = 12 * 3_600_000;
pub const LEASE_MS_DEFAULT: i64 = 30_000;
/// Size to which an error is truncated.
pub const ERROR: usize = 8 * 1024;
/// Number of history entries that are kept of a job, the newest.
pub const ATTEMPTS_KEPT: u32 = 100;
/// Maximum number of a job's copies in the answer of `GetJob`, the newest.
pub const COPIES_SHOWN: u32 = 20;
/// Maximum size of a result.
pub const RESULT: usize = 64 * 1024;
/// Maximum size of reasons, notes and progress messages.
pub const NOTE: usize = 1024;
pub const PAGE_DEFAULT: u32 = 50;
pub const PAGE_MAX: u32 = 500;
/// Maximum number of sessions in one answer of `ListWorkers`.
pub const SESSIONS_PAGE: u32 = 1_000;
/// Maximum number of `worker_ids` in one answer of `GetMetrics`.
pub const WORKER_IDS_PAGE: u32 = 10_000;
/// Maximum number of rows that one page of a filtered list reads.
pub const PAGE_SCAN: u32 = 5_000;
/// Maximum time in milliseconds after which one page of a filtered list, or a count, ends its reading.
pub const SCAN_MS: u64 = 50;
/// Maximum number of values in one list of a filter.
pub const FILTER_VALUES: usize = 100;
/// Maximum number of ids in the filter of a list: all of them are read for each page.
pub const FILTER_IDS: usize = 500;
/// Maximum number of a filter's conditions on the payload: each is tested for every job that is read.
pub const FILTER_PAYLOAD: usize = 8;
pub const FILTER_PATH: usize = 255;
/// Maximum size of the text that an error contains, and of the value of a payload's field.
pub const FILTER_TEXT: usize = 1024;
/// Maximum size of a filter's text form. `FILTER_IDS` ids and the rest of a filter fit in.
pub const FILTER_FORM: usize = 32 * 1024;
/// Maximum number of jobs without a handler that a count reads.
pub const NO_HANDLER_SCAN: u32 = 50_000;
/// Maximum number of jobs that a session holds, and of its slots.
pub const JOBS_PER_SESSION: u32 = 10_000;
/// Maximum number of jobs in one answer of `AcquireJobs`.
pub const JOBS_PER_ACQUIRE: u32 = 1_000;
/// Maximum number of settlements in one `SettleJobs`.
pub const SETTLEMENTS: usize = 1_000;
/// Maximum `wait` of `AcquireJobs`.
pub const ACQUIRE_WAIT_MS: i64 = 60_000;
/// Maximum `wait` of `WaitJob`.
pub const WAIT_MS: i64 = 60_000;
/// Maximum number of concurrent calls on one HTTP/2 connection.
pub const CALLS_PER_CONNECTION: usize = 128;
/// Maximum number of tasks that a session lists.
pub const TASKS_PER_SESSION: usize = 1_000;
/// Maximum number of sessions that one new session takes over from.
pub const PREDECESSORS: usize = 100;
/// Maximum number of a session's jobs in the answer of `GetWorker`.
pub const HELD_SHOWN: usize = 500;
/// Maximum size of host and version of a session.
pub const SESSION_TEXT: usize = 255;
/// Number up to which `ExplainJob` counts the jobs before a job.
pub const AHEAD: u32 = 1_000;
/// Maximum number of minutes of `GetThroughput`: a day.
pub const THROUGHPUT_MINUTES: i32 = 1_440;
/// Maximum number of ids in the filter of an operation.
pub const OPERATION_IDS: usize = 10_000;
/// Number of these ids that answers show.
pub const OPERATION_IDS_SHOWN: usize = 100;
/// Maximum number of jobs that an operation changes per second, if it is limited.
pub const OPERATION_RATE: u32 = 100_000;
/// Maximum number of jobs in the canary of an operation.
pub const OPERATION_CANARY: u32 = 1_000;
/// Number of refused jobs that are kept of an operation, the first ones.
pub const OPERATION_REFUSALS: u32 = 100;
/// Maximum number of samples in the answer to a dry run.
pub const OPERATION_SAMPLES: u32 = 10;
/// Maximum number of operations on a page, and the default.
pub const OPERATIONS_PAGE: u32 = 200;
pub const OPERATIONS_PAGE_DEFAULT: u32 = 50;
/// Maximum number of minutes that `GetThroughput` counts together: an hour.
pub const THROUGHPUT_STEP: u32 = 60;
/// Maximum number of `worker_ids` of `GetThroughputs`; a page of a list shows fewer.
pub const THROUGHPUTS: usize = 100;
/// Number of minutes, the present one included, in which `failed_lately` counts.
pub const LATELY_MINUTES: i64 = 10;

/// Maximum number of error groups. Beyond it the oldest without dead letters are removed.
pub const ERROR_GROUPS: usize = 10_000;
pub const ERROR_GROUPS_PAGE_DEFAULT: u32 = 50;
pub const ERROR_GROUPS_PAGE_MAX: u32 = 200;
/// Maximum number of worker_ids that a list names of an error group.
pub const ERROR_GROUP_NAMES: usize = 10;
/// Maximum number of worker_ids of an error group in the answer of `GetErrorGroup`.
pub const ERROR_GROUP_WORKER_IDS: usize = 100;
/// Maximum number of pending jobs that `GetErrorGroup` examines for those that wait to be retried.
pub const RETRYING_EXAMINED: u32 = 1_000;
/// Maximum size of the link of an error group.
pub const LINK: usize = 2_000;
/// Maximum number of failed attempts for which an error group can be ignored.
pub const IGNORED_ATTEMPTS: u32 = 1_000_000_000;

/// Truncates `text` to at most `max` bytes, between characters.
pub fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}
