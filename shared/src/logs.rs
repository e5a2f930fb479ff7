//! Log writer that never blocks or ends its program, even if the file, terminal or pipe behind it is full, slow or
//! closed.

use std::{
    io::{self, Write},
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Maximum number of lines that wait for a slow reader; about 2 MiB. More are dropped and counted.
const LINES: usize = 8 * 1024;
/// Maximum time that the end of a program waits for a slow reader.
const FLUSHING: Duration = Duration::from_millis(1_500);

/// Guard of the writer's thread. When it is dropped, waiting lines are written, for at most 1.5 s.
#[derive(Debug)]
pub struct Logs {
    guard: Option<WorkerGuard>,
    dropped: ErrorCounter,
    told: AtomicUsize,
}

/// Makes a writer whose lines a thread of its own writes to `to`.
pub fn writer(to: impl Write + Send + 'static) -> (NonBlocking, Logs) {
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES)
        .thread_name("logs")
        .finish(WithoutErrors(to));
    let dropped = writer.error_counter();
    (writer, Logs { guard: Some(guard), dropped, told: AtomicUsize::new(0) })
}

impl Logs {
    /// Number of lines dropped since the last call.
    pub fn newly_dropped(&self) -> usize {
        let dropped = self.dropped.dropped_lines();
        dropped.saturating_sub(self.told.swap(dropped, Ordering::Relaxed))
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        let Some(guard) = self.guard.take() else { return };
        let (written, is_written) = mpsc::channel();
        // In a thread, because dropping the guard waits for a reader, and may even print that there is none.
        let flushing = thread::Builder::new().spawn(move || {
            drop(guard);
            let _ = written.send(());
        });
        if flushing.is_ok() {
            let _ = is_written.recv_timeout(FLUSHING);
        }
    }
}

/// Writer that ignores errors, such as a full disk or a closed pipe: there is nowhere to report them.
struct WithoutErrors<W>(W);

impl<W: Write> Write for WithoutErrors<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.0.write(bytes).unwrap_or(bytes.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    struct Blocked(Arc<Mutex<()>>);

    impl Write for Blocked {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            drop(self.0.lock().unwrap());
            Err(if bytes.is_empty() { io::ErrorKind::WriteZero } else { io::ErrorKind::StorageFull }.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn a_reader_that_does_not_read_holds_up_nobody_and_what_is_lost_is_counted() {
        let reader = Arc::new(Mutex::new(()));
        let asleep = reader.lock().unwrap();
        let (mut writer, logs) = writer(Blocked(Arc::clone(&reader)));
        for _ in 0..LINES + 100 {
            writer.write_all(b"line\n").unwrap();
        }
        let dropped = logs.newly_dropped();
        assert!((99..=100).contains(&dropped), "{dropped}");
        assert_eq!(logs.newly_dropped(), 0);
        drop(logs);
        drop(asleep);
    }

    #[test]
    fn errors_of_what_is_written_to_do_not_stop_the_writer() {
        let (mut writer, logs) = writer(Blocked(Arc::default()));
        for _ in 0..10 {
            writer.write_all(b"line\n").unwrap();
        }
        drop(logs);
        assert_eq!(writer.error_counter().dropped_lines(), 0);
    }
}
