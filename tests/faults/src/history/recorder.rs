//! Recorder of a process's history: an event is on disk before the process continues.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::Path,
    sync::Arc,
};

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};

use super::event::{Event, Kind};

/// CLOCK_MONOTONIC in nanoseconds. All processes of a machine share it, and nobody can set it. It is read by a system
/// call of its own, so that a library that falsifies this process's clock does not falsify this one.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Writer of one process's history. Clones are cheap and share one file, `<process>.jsonl`.
#[derive(Clone, Debug)]
pub struct Recorder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    process: String,
    writing: Mutex<Writing>,
}

#[derive(Debug)]
struct Writing {
    file: File,
    next: u64,
}

impl Recorder {
    /// Creates the file `<process>.jsonl` in the folder.
    ///
    /// # Errors
    /// When the file cannot be created, and when it exists already: a process name is used once.
    pub fn create(folder: &Path, process: &str) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create_new(true).open(folder.join(format!("{process}.jsonl")))?;
        let writing = Mutex::new(Writing { file, next: 0 });
        Ok(Self(Arc::new(Inner { process: process.to_owned(), writing })))
    }

    pub fn process(&self) -> &str {
        &self.0.process
    }

    /// Writes one event; returns when it is on disk.
    pub fn record(&self, kind: Kind) -> io::Result<()> {
        self.record_all([kind])
    }

    /// Writes events with one common time; returns when they are on disk.
    pub fn record_all(&self, kinds: impl IntoIterator<Item = Kind>) -> io::Result<()> {
        let at_ns = now_ns();
        let mut writing = self.0.writing.lock();
        let mut lines = Vec::new();
        for kind in kinds {
            let event = Event { process: self.0.process.clone(), seq: writing.next, at_ns, kind };
            serde_json::to_writer(&mut lines, &event)?;
            lines.push(b'\n');
            writing.next += 1;
        }
        writing.file.write_all(&lines)?;
        writing.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::History;

    #[test]
    fn what_is_recorded_is_read_in_the_order_in_which_it_happened() {
        let folder = tempfile::tempdir().unwrap();
        let first = Recorder::create(folder.path(), "first").unwrap();
        let second = Recorder::create(folder.path(), "second").unwrap();
        let kind = |n| Kind::SubmitFailed { call: n, place: 0, conflict: false, error: String::new() };
        first.record(kind(1)).unwrap();
        second.record_all([kind(2), kind(3)]).unwrap();
        first.record(kind(4)).unwrap();
        let history = History::read(folder.path()).unwrap();
        let read: Vec<_> = history.events.iter().map(|it| (it.process.as_str(), it.seq, it.kind.clone())).collect();
        assert_eq!(
            read,
            [("first", 0, kind(1)), ("second", 0, kind(2)), ("second", 1, kind(3)), ("first", 1, kind(4))]
        );
    }

    #[test]
    fn a_name_is_used_once() {
        let folder = tempfile::tempdir().unwrap();
        Recorder::create(folder.path(), "worker").unwrap();
        assert_eq!(Recorder::create(folder.path(), "worker").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
