//! Every published limit, in one place. Bytes unless the name says otherwise; times in milliseconds.

/// A payload, unless the server is told otherwise.
pub const PAYLOAD_DEFAULT: usize = 256 * 1024;
/// The largest payload that a server can be told to accept.
pub const PAYLOAD_MAX: usize = 1024 * 1024;
/// How deep a payload's arrays and objects may nest.
pub const JSON_DEPTH: usize = 64;
/// Jobs in one `SubmitJobs`.
pub const BATCH_JOBS: usize = 500;
/// All of one gRPC request.
pub const REQUEST_BYTES: usize = 4 * 1024 * 1024;
/// Where a page or a batch of jobs ends, payloads and results counted.
pub const REPLY_BYTES: usize = 3 * 1024 * 1024;
pub const WORKER_ID: usize = 100;
pub const TASK: usize = 100;
pub const IDEMPOTENCY_KEY: usize = 255;
pub const MAX_RETRIES: u32 = 100;
pub const MAX_RETRIES_DEFAULT: u32 = 3;
/// Priorities run from 0, taken first, to this.
pub const PRIORITY_LOWEST: u8 = 9;
pub const PRIORITY_DEFAULT: u8 = 5;
/// delay, `run_at`, `retry_after`, snooze, retry delays, `attempt_timeout`.
pub const DELAY_MS: i64 = 365 * 24 * 3_600_000;
pub const LEASE_MS_MIN: i64 = 5_000;
pub const LEASE_MS_MAX: i64 = 12 * 3_600_000;
pub const LEASE_MS_DEFAULT: i64 = 30_000;
/// What is kept of an error.
pub const ERROR: usize = 8 * 1024;
pub const ATTEMPTS_KEPT: u32 = 100;
pub const RESULT: usize = 64 * 1024;
/// Reasons, notes and progress messages.
pub const NOTE: usize = 1024;
pub const PAGE_DEFAULT: u32 = 50;
pub const PAGE_MAX: u32 = 500;
/// Sessions in one answer of `ListWorkers`.
pub const SESSIONS_PAGE: u32 = 1_000;
/// `worker_ids` in one answer of `GetMetrics`.
pub const WORKER_IDS_PAGE: u32 = 10_000;
/// Rows that one page of a filtered list reads at most.
pub const PAGE_SCAN: u32 = 5_000;
pub const JOBS_PER_SESSION: u32 = 10_000;
pub const JOBS_PER_ACQUIRE: u32 = 1_000;
pub const SETTLEMENTS: usize = 1_000;
/// The longest `wait` of `AcquireJobs`.
pub const ACQUIRE_WAIT_MS: i64 = 60_000;
pub const TASKS_PER_SESSION: usize = 1_000;
/// Sessions that one new session takes over from.
pub const PREDECESSORS: usize = 100;
/// Jobs of a session that `GetWorker` names.
pub const HELD_SHOWN: usize = 500;
/// host and version of a session.
pub const SESSION_TEXT: usize = 255;
/// Up to how many jobs before one are counted.
pub const AHEAD: u32 = 1_000;
pub const THROUGHPUT_MINUTES: i32 = 1_440;

/// `text` without its end beyond `max` bytes, cut between characters.
pub fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}
