//! Rows that are read of the groups of a page or of one group, and the groups that they make.

use std::collections::{BTreeMap, HashMap};

use jobqueue_shared::limits;
use sqlx::FromRow;
use uuid::Uuid;

use super::list::GroupRow;
use crate::types::{
    ErrorGroup, ErrorGroupDetails, ErrorGroupId, ErrorGroupState, ErrorGroupWorkerId, ErrorSample, ErrorWindow,
};

/// Texts of a group: of its row, or of a change that is not folded. Those of the row come first.
#[derive(Clone, Debug, FromRow)]
pub struct TextRow {
    pub fingerprint: i64,
    pub task: String,
    pub title: String,
    pub note: String,
    pub link: String,
    pub changed_at: Option<i64>,
}

/// Events of a group in a slot.
#[derive(Clone, Debug, FromRow)]
pub struct SlotRow {
    pub fingerprint: i64,
    pub slot: i64,
    pub attempts: i64,
    pub died: i64,
}

/// A worker_id of a group.
#[derive(Clone, Debug, FromRow)]
pub struct NameRow {
    pub fingerprint: i64,
    pub worker_id: String,
}

#[derive(Clone, Debug, FromRow)]
pub struct WorkerIdRow {
    pub worker_id: String,
    attempts: i64,
    dead_letters: i64,
    last_seen: i64,
}

#[derive(Clone, Debug, FromRow)]
pub struct SampleRow {
    error: String,
    job_id: Option<Uuid>,
    at: i64,
}

impl SampleRow {
    pub fn into_sample(self) -> ErrorSample {
        ErrorSample { error: self.error, job_id: self.job_id, at_ms: self.at }
    }
}

/// Rows that are read of the groups of a page.
pub struct PageRows {
    pub texts: Vec<TextRow>,
    pub slots: Vec<SlotRow>,
    /// At most [`super::list::NAMES_READ`] of each group from its row, and those of changes that are not folded.
    pub names: Vec<NameRow>,
}

/// Makes the groups of a page, in the order of `rows`.
pub fn groups(rows: Vec<GroupRow>, read: PageRows, window: ErrorWindow, now_ms: i64) -> Vec<ErrorGroup> {
    let mut texts: HashMap<i64, TextRow> = HashMap::new();
    for text in read.texts {
        texts.entry(text.fingerprint).or_insert(text);
    }
    let mut names: HashMap<i64, Vec<String>> = HashMap::new();
    for row in read.names {
        names.entry(row.fingerprint).or_default().push(row.worker_id);
    }
    let mut counts = slots(&read.slots, window, now_ms, |row| row.attempts);
    rows.into_iter()
        .map(|row| {
            let text = texts.remove(&row.fingerprint);
            let mut worker_ids = names.remove(&row.fingerprint).unwrap_or_default();
            worker_ids.sort_unstable();
            worker_ids.dedup();
            let more_worker_ids = worker_ids.len() > limits::ERROR_GROUP_NAMES;
            worker_ids.truncate(limits::ERROR_GROUP_NAMES);
            let (state, decision) = (row.state(now_ms), row.decision());
            let ignored = state == ErrorGroupState::Ignored;
            let (task, title, note, link, changed_at_ms) = match text {
                Some(text) => (text.task, text.title, text.note, text.link, text.changed_at),
                None => Default::default(),
            };
            ErrorGroup {
                id: ErrorGroupId(row.fingerprint),
                task,
                title,
                state,
                first_seen_ms: row.first_seen,
                last_seen_ms: row.last_seen,
                attempts: row.attempts.max(0) as u64,
                counts: counts.remove(&row.fingerprint).unwrap_or_else(|| vec![0; window.slots()]),
                dead_letters: row.dead_letters.max(0) as u64,
                worker_ids,
                more_worker_ids,
                note,
                link,
                changed_at_ms,
                ignored_until_ms: decision.ignore_until.filter(|_| ignored),
                ignored_attempts: decision.attempts_left(row.attempts).filter(|_| ignored),
            }
        })
        .collect()
}

/// Values of each group by slot of the window.
fn slots(rows: &[SlotRow], window: ErrorWindow, now_ms: i64, value: fn(&SlotRow) -> i64) -> BTreeMap<i64, Vec<u64>> {
    let first = window.first_slot(now_ms);
    let mut all: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
    for row in rows {
        // A slot after the present one is of a server whose clock is ahead; it counts as the present one.
        let at = (row.slot - first).min(window.slots() as i64 - 1);
        let counts = all.entry(row.fingerprint).or_insert_with(|| vec![0; window.slots()]);
        if let Some(count) = usize::try_from(at).ok().and_then(|at| counts.get_mut(at)) {
            *count += value(row).max(0) as u64;
        }
    }
    all
}

/// Rows that are read of one group besides [`PageRows`].
pub struct DetailRows {
    pub died: Vec<SlotRow>,
    pub worker_ids: Vec<WorkerIdRow>,
    /// The newest error of each source, newest first.
    pub sample: Option<SampleRow>,
    /// Number of pending jobs whose last attempt failed with this error, and whether all were examined.
    pub retrying: i64,
    pub examined: i64,
}

pub fn details(group: ErrorGroup, read: DetailRows, window: ErrorWindow, now_ms: i64) -> ErrorGroupDetails {
    let died = slots(&read.died, window, now_ms, |row| row.died).into_values().next();
    let worker_id = |row: WorkerIdRow| ErrorGroupWorkerId {
        worker_id: row.worker_id,
        attempts: row.attempts.max(0) as u64,
        dead_letters: row.dead_letters.max(0) as u64,
        last_seen_ms: row.last_seen,
    };
    ErrorGroupDetails {
        died: died.unwrap_or_else(|| vec![0; window.slots()]),
        worker_ids: read.worker_ids.into_iter().map(worker_id).collect(),
        sample: read.sample.map(SampleRow::into_sample).unwrap_or_default(),
        retrying: read.retrying.max(0) as u64,
        retrying_is_floor: read.examined >= i64::from(limits::RETRYING_EXAMINED),
        now_ms,
        group,
    }
}
