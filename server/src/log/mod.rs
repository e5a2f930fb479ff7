//! The server's log: lines on stderr, as text or as one JSON object each, with a rate limit for lines of one kind
//! (`limit`). stdout is for output that programs read.
//!
//! A thread of its own writes the lines, from a bounded queue: if stderr is not read, or is closed, lines are lost, and
//! nothing waits.

mod limit;

use std::{
    fmt::Display,
    io::{self, IsTerminal as _, Write},
    panic,
    sync::{
        LazyLock, OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use clap::ValueEnum;
use metrics::counter;
use parking_lot::Mutex;
use tracing::{error, warn};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use self::limit::Limit;

/// Maximum number of lines that wait to be written; more are dropped. A line has about 200 bytes.
const LINES: usize = 8_192;
/// Time that the process waits at its end for lines to be written.
const AT_THE_END: Duration = Duration::from_millis(1_500);

static LIMIT: LazyLock<Limit> = LazyLock::new(Limit::default);
/// Counter of lines that did not fit into the queue.
static QUEUE: OnceLock<ErrorCounter> = OnceLock::new();
/// Number of writes that failed.
static FAILED: AtomicUsize = AtomicUsize::new(0);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Checks a filter in tracing's syntax.
pub(crate) fn filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|error| format!("{error}: try info, or info,jobqueue=debug"))
}

/// Installs the process's logger; `filter` is in tracing's syntax, for example `info,jobqueue=debug`.
pub fn init(filter: &str, format: LogFormat) -> anyhow::Result<Log> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        anyhow::anyhow!("--log {filter:?} is no filter ({error}): try info, or info,jobqueue=debug")
    })?;
    let (lines, writer) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES)
        .thread_name("log")
        .finish(Counted(io::stderr()));
    let _ = QUEUE.set(lines.error_counter());
    let log = Log(Some(writer));
    let registry = tracing_subscriber::registry().with(filter).with(&*LIMIT);
    match format {
        LogFormat::Text => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .with_writer(lines)
                    .with_ansi(io::stderr().is_terminal())
                    .with_target(false)
                    .log_internal_errors(false),
            )
            .try_init()?,
        LogFormat::Json => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_span_list(false)
                    .with_writer(lines)
                    .log_internal_errors(false),
            )
            .try_init()?,
    }
    // Panics are logged as one line, like other failures.
    panic::set_hook(Box::new(|info| {
        let location = info.location().map(ToString::to_string).unwrap_or_default();
        let payload = info.payload();
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("panic");
        error!(%location, message, "a task panicked");
    }));
    Ok(log)
}

/// The process's logger. When it is dropped, waiting lines are written, as long as stderr is read.
#[derive(Debug)]
pub struct Log(Option<WorkerGuard>);

impl Drop for Log {
    fn drop(&mut self) {
        LIMIT.report();
        let writer = self.0.take();
        // Dropping the guard prints to stdout if stderr is stuck, and can get stuck there, too.
        at_the_end(move || drop(writer));
    }
}

/// Prints a line on stdout; failures are ignored.
pub fn print(line: &impl Display) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// Prints the error that ends the program on stderr, unless stderr is stuck.
pub fn last_words(line: String) {
    at_the_end(move || {
        let _ = writeln!(io::stderr(), "{line}");
    });
}

/// Runs `work` on a thread, and stops waiting for it after [`AT_THE_END`].
fn at_the_end(work: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    let started = thread::Builder::new().spawn(move || {
        work();
        let _ = done.send(());
    });
    if started.is_ok() {
        let _ = is_done.recv_timeout(AT_THE_END);
    }
}

/// Reports lines that the log lacks: in the metrics, and in the log as soon as it takes lines again.
pub(crate) fn report() {
    /// Number of dropped lines at the last call, and number of those that the log has reported.
    static SEEN: Mutex<(usize, usize)> = Mutex::new((0, 0));
    LIMIT.report();
    let dropped = dropped();
    counter!("jobqueue_log_lines_dropped_total").absolute(dropped as u64);
    let mut seen = SEEN.lock();
    let (before, told) = *seen;
    if dropped > told && dropped == before {
        warn!(lines = dropped - told, "lines of the log were dropped: nobody read stderr");
        if self::dropped() == dropped {
            seen.1 = dropped;
        }
    }
    seen.0 = dropped;
}

fn dropped() -> usize {
    QUEUE.get().map_or(0, ErrorCounter::dropped_lines) + FAILED.load(Ordering::Relaxed)
}

/// Writer that counts failed writes.
struct Counted<W>(W);

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                FAILED.fetch_add(1, Ordering::Relaxed);
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
