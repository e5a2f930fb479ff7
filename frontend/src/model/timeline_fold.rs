//! Entries of a timeline: its lines, of which equal attempts in a row are folded into one entry.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use jobqueue_shared::proto::v1::timeline_event::Kind;

use super::timeline::{Line, Text, ends_a_run};

/// Number of equal attempts in a row that are shown in full: the newest and the oldest, and between them too few to be
/// worth a fold.
const IN_FULL: usize = 3;

/// Entry of the timeline.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// Unique key, which an entry keeps while the timeline grows.
    pub key: String,
    pub content: Content,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    Line(Line),
    Fold(Fold),
}

impl Default for Content {
    fn default() -> Self {
        Self::Fold(Fold::default())
    }
}

/// Equal attempts between the newest and the oldest of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fold {
    pub attempts: usize,
    /// Times of the first and of the last event in the fold.
    pub first: Option<i64>,
    pub last: Option<i64>,
    pub is_open: bool,
}

/// Entries for `lines`, which are ordered newest first. The lines of a fold follow it if its key is in `open`.
pub fn entries(lines: &[Line], open: &BTreeSet<String>) -> Vec<Entry> {
    let attempts = attempts(lines);
    // Rows of equal attempts are told apart by the number of earlier ones that are like them.
    let mut rows: Vec<&[&[Line]]> = attempts.chunk_by(|a, b| likeness(a) == likeness(b)).collect();
    rows.reverse();
    let mut seen = HashMap::<u64, usize>::new();
    let mut parts = Vec::with_capacity(rows.len());
    for row in rows {
        let mut hash = DefaultHasher::new();
        row.first().map(|attempt| likeness(attempt)).hash(&mut hash);
        let hash = hash.finish();
        let before = seen.entry(hash).or_default();
        parts.push(part(row, format!("fold {hash:x} {before}"), open));
        *before += 1;
    }
    parts.into_iter().rev().flatten().collect()
}

/// Entries of a row of equal attempts.
fn part(row: &[&[Line]], key: String, open: &BTreeSet<String>) -> Vec<Entry> {
    let line = |line: &Line| Entry { key: format!("{:?}", line.key), content: Content::Line(line.clone()) };
    let [newest, between @ .., oldest] = row else { return row.concat().iter().map(line).collect() };
    if row.len() <= IN_FULL {
        return row.concat().iter().map(line).collect();
    }
    let times = || between.iter().flat_map(|attempt| attempt.iter()).filter_map(|line| line.at);
    let is_open = open.contains(&key);
    let fold = Fold { attempts: between.len(), first: times().min(), last: times().max(), is_open };
    let mut entries: Vec<Entry> = newest.iter().map(line).collect();
    entries.push(Entry { key, content: Content::Fold(fold) });
    if is_open {
        entries.extend(between.concat().iter().map(line));
    }
    entries.extend(oldest.iter().map(line));
    entries
}

/// Lines in groups: the end of an attempt with its acquire, which is the line below it, and every other line alone.
fn attempts(lines: &[Line]) -> Vec<&[Line]> {
    let mut groups = Vec::new();
    let mut rest = lines;
    while !rest.is_empty() {
        let pair = matches!(rest, [end, start, ..]
            if ends_a_run(end.kind) && start.kind == Kind::Acquired && start.run_no == end.run_no);
        let (group, after) = rest.split_at(if pair { 2 } else { 1 });
        groups.push(group);
        rest = after;
    }
    groups
}

/// Kinds of an attempt's events, and the text of its end.
fn likeness(attempt: &[Line]) -> (Vec<Kind>, Option<&Text>) {
    (attempt.iter().map(|line| line.kind).collect(), attempt.first().map(|line| &line.text))
}

/// Number of `entries` that are shown at first: `at_first`, or more, so that no entry disappears that has been shown.
/// `oldest` is the key of the last entry shown so far.
pub fn shown(entries: &[Entry], oldest: Option<&String>, at_first: usize) -> usize {
    let before = oldest.and_then(|key| entries.iter().position(|entry| entry.key == *key));
    before.map_or_else(|| at_first.min(entries.len()), |at| at + 1)
}

#[cfg(test)]
mod tests {
    use jobqueue_shared::{proto::v1::TimelineEvent, time::timestamp};

    use super::{super::timeline, *};

    fn event(kind: Kind, at: i64, run_no: i32, text: &str) -> TimelineEvent {
        TimelineEvent { kind: kind.into(), at: Some(timestamp(at)), run_no, text: text.into(), ..Default::default() }
    }

    /// Events of failed runs: an acquire and a failure each.
    fn failures(errors: &[&str]) -> Vec<TimelineEvent> {
        let run = |(n, error): (usize, &&str)| {
            let (run_no, at) = (n as i32 + 1, n as i64 * 10_000);
            [event(Kind::Acquired, at, run_no, ""), event(Kind::AttemptFailed, at + 500, run_no, error)]
        };
        errors.iter().enumerate().flat_map(run).collect()
    }

    fn of(events: &[TimelineEvent], open: &BTreeSet<String>) -> Vec<Entry> {
        entries(&timeline::lines(events), open)
    }

    fn folds(entries: &[Entry]) -> Vec<(usize, &Fold)> {
        let fold = |(at, entry)| match entry {
            &Entry { content: Content::Fold(ref fold), .. } => Some((at, fold)),
            _ => None,
        };
        entries.iter().enumerate().filter_map(fold).collect()
    }

    #[test]
    fn equal_failures_are_one_fold_between_the_newest_and_the_oldest() {
        let mut events = vec![event(Kind::Submitted, 0, 0, "")];
        events.extend(failures(&["boom"; 60]));
        let all = of(&events, &BTreeSet::new());
        assert_eq!(all.len(), 6, "two lines, the fold, two lines, the submission");
        let (at, fold) = folds(&all)[0];
        assert_eq!((at, fold.attempts, fold.is_open), (2, 58, false));
        assert_eq!((fold.first, fold.last), (Some(10_000), Some(580_500)));

        let open = BTreeSet::from([all[2].key.clone()]);
        let opened = of(&events, &open);
        assert_eq!(opened.len(), 122);
        assert!(folds(&opened)[0].1.is_open);
        let keys: BTreeSet<_> = opened.iter().map(|entry| &entry.key).collect();
        assert_eq!(keys.len(), opened.len());
    }

    #[test]
    fn few_or_different_ones_are_not_folded() {
        for errors in [&["boom"; 3][..], &["a", "b", "a", "b", "a", "b"], &["a"], &[]] {
            let all = of(&failures(errors), &BTreeSet::new());
            assert_eq!((all.len(), folds(&all).len()), (2 * errors.len(), 0));
        }
    }

    #[test]
    fn a_fold_keeps_its_key_while_more_fail_and_while_the_oldest_are_forgotten() {
        let before = of(&failures(&["boom"; 9]), &BTreeSet::new());
        let after = of(&failures(&["boom"; 12])[4..], &BTreeSet::new());
        assert_eq!(before[2].key, after[2].key);
        let apart = of(&failures(&["a", "a", "a", "a", "b", "a", "a", "a", "a"]), &BTreeSet::new());
        let keys: Vec<_> = folds(&apart).into_iter().map(|(at, _)| &apart[at].key).collect();
        assert_eq!(keys.len(), 2);
        assert_ne!(keys[0], keys[1]);
    }

    #[test]
    fn other_events_end_a_row() {
        let mut events = failures(&["boom"; 8]);
        events.insert(8, event(Kind::Retried, 40_000, 4, ""));
        let all = of(&events, &BTreeSet::new());
        let attempts: Vec<_> = folds(&all).into_iter().map(|(_, fold)| fold.attempts).collect();
        assert_eq!(attempts, [2, 2]);
    }

    #[test]
    fn what_was_shown_stays_when_more_comes() {
        let events: Vec<_> = (0..6).map(|n| event(Kind::Refused, n, 1, &n.to_string())).collect();
        let before = of(&events[..4], &BTreeSet::new());
        assert_eq!(shown(&before, None, 3), 3);
        let after = of(&events, &BTreeSet::new());
        assert_eq!(shown(&after, Some(&before[2].key), 3), 5);
        assert_eq!(shown(&after, Some(&"gone".to_owned()), 3), 3, "it is no longer told");
        assert_eq!(shown(&[], None, 3), 0);
    }
}
