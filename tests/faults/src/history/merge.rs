//! The files of a run, read as one history.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use super::event::{Event, Kind};

/// Events of all processes of a run, in order of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    pub events: Vec<Event>,
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}, line {line}: {source}")]
    Line { path: PathBuf, line: usize, source: serde_json::Error },
    #[error("{path}, line {line}: is event {found} of {process:?}, where event {line} of the file's process stands")]
    Order { path: PathBuf, line: usize, process: String, found: u64 },
}

impl History {
    pub fn new(mut events: Vec<Event>) -> Self {
        events.sort_by(|a, b| (a.at_ns, &a.process, a.seq).cmp(&(b.at_ns, &b.process, b.seq)));
        Self { events }
    }

    /// Reads every `*.jsonl` in the folder. A last line that is cut off, as a kill -9 leaves it, is ignored: the action
    /// that it announces was not done yet.
    pub fn read(folder: &Path) -> Result<Self, ReadError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ReadError::Io { path, source }
        };
        let mut events = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed(folder))? {
            let path = entry.map_err(failed(folder))?.path();
            if path.extension() == Some(OsStr::new("jsonl")) {
                let text = fs::read_to_string(&path).map_err(failed(&path))?;
                events.extend(read_file(&path, &text)?);
            }
        }
        Ok(Self::new(events))
    }

    pub fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.events.iter().map(|event| &event.kind)
    }
}

fn read_file(path: &Path, text: &str) -> Result<Vec<Event>, ReadError> {
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let mut events = Vec::new();
    for (line, text) in whole.lines().enumerate() {
        let event: Event = serde_json::from_str(text).map_err(|source| ReadError::Line {
            path: path.to_owned(),
            line: line + 1,
            source,
        })?;
        let stem = path.file_stem().and_then(OsStr::to_str);
        if event.seq != line as u64 || stem != Some(&event.process) {
            let (process, found) = (event.process, event.seq);
            return Err(ReadError::Order { path: path.to_owned(), line, process, found });
        }
        events.push(event);
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(seq: u64) -> String {
        let kind = Kind::SubmitFailed { call: 1, place: 0, conflict: false, error: "no".to_owned() };
        serde_json::to_string(&Event { process: "a".to_owned(), seq, at_ns: seq, kind }).unwrap()
    }

    #[test]
    fn a_line_that_was_cut_off_by_a_kill_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.jsonl"), format!("{}\n{}", line(0), &line(1)[..20])).unwrap();
        fs::write(folder.path().join("a.log"), "no history").unwrap();
        assert_eq!(History::read(folder.path()).unwrap().events.len(), 1);
    }

    #[test]
    fn a_history_with_holes_is_no_history() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        fs::write(&path, format!("{}\n{}\n", line(0), line(2))).unwrap();
        assert!(matches!(History::read(folder.path()), Err(ReadError::Order { found: 2, .. })));
        fs::write(&path, "{}\n").unwrap();
        assert!(matches!(History::read(folder.path()), Err(ReadError::Line { line: 1, .. })));
    }
}
