//! Keys of the text form.

/// Key of a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Task,
    Status,
    Worker,
    Attempts,
    Priority,
    /// `created`, by its age.
    Age,
    Created,
    Finished,
    RunAt,
    Payload,
    Error,
    Reason,
    Group,
    Session,
    Origin,
    Id,
}

/// A key, as suggestions and documents show it.
#[derive(Debug, PartialEq, Eq)]
pub struct KeyHelp {
    pub key: Key,
    /// As it is written, with the colon; `payload.` is followed by a path.
    pub word: &'static str,
    pub help: &'static str,
    pub example: &'static str,
}

const fn help(key: Key, word: &'static str, help: &'static str, example: &'static str) -> KeyHelp {
    KeyHelp { key, word, help, example }
}

/// All keys, in the order in which they are suggested and printed.
pub const KEYS: &[KeyHelp] = &[
    help(Key::Status, "status:", "status, or kind of pending job", "status:failed"),
    help(Key::Task, "task:", "task", "task:email,sms"),
    help(Key::Worker, "worker:", "worker_id", "worker:mail"),
    help(Key::Error, "error:", "text in the last error", "error:\"timed out\""),
    help(Key::Reason, "reason:", "reason of a dead letter", "reason:permanent"),
    help(Key::Group, "group:", "error group of a dead letter", "group:3f2a91c04be7d508"),
    help(Key::Age, "age:", "time since the job was submitted", "age:<2h"),
    help(Key::Created, "created:", "time of the submit", "created:2026-11-29..2026-11-30"),
    help(Key::Finished, "finished:", "time of the end", "finished:>1h"),
    help(Key::RunAt, "run_at:", "time at which it is due", "run_at:<1h"),
    help(Key::Attempts, "attempts:", "attempts used", "attempts:>=2"),
    help(Key::Priority, "priority:", "priority, 0 to 9", "priority:0..3"),
    help(Key::Payload, "payload.", "value in the payload", "payload.customer.id:42"),
    help(Key::Session, "session:", "session that holds or finished it", "session:01996a3c-0000-7000-8000-000000000001"),
    help(Key::Origin, "origin:", "job that it was copied from", "origin:01996a3c-0000-7000-8000-000000000003"),
    help(Key::Id, "id:", "job id", "id:01996a3c-0000-7000-8000-000000000002"),
];

impl Key {
    /// Key of a word in front of a colon; `None` if there is none such.
    pub(super) fn find(word: &str) -> Option<Self> {
        if word.starts_with("payload.") {
            return Some(Self::Payload);
        }
        let word = if word == "worker_id" { "worker" } else { word };
        KEYS.iter().find(|it| it.word.strip_suffix(':') == Some(word)).map(|it| it.key)
    }

    pub(super) fn help(self) -> &'static KeyHelp {
        // Every key is in the list; a test sees to it.
        KEYS.iter().find(|it| it.key == self).unwrap_or(&KEYS[0])
    }
}
