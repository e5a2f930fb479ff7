//! Lines of a job's timeline, newest first, each with the duration of its run and a unique key.

use std::collections::HashMap;

use jobqueue_shared::{
    proto::v1::{TimelineEvent, timeline_event::Kind},
    time::timestamp_ms,
};
use prost::Message as _;

use super::status::percent;

/// Maximum length of an event's text on one line, in characters; a longer text is folded.
const LINE: usize = 160;

/// Line of the timeline.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    /// Unique key: the encoded event, and the number of equal events before it. Progress, of which a run has one event
    /// that changes, is keyed by its run alone.
    pub key: (Vec<u8>, u32),
    pub kind: Kind,
    pub at: Option<i64>,
    /// Number of the run; 0 = the event belongs to none.
    pub run_no: i32,
    /// Session that ran the job, and its host; "" = none.
    pub session_id: String,
    pub host: String,
    /// Percentage, such as "45 %", for an event that reports progress.
    pub progress: Option<String>,
    pub text: Text,
    /// Milliseconds since the job was acquired, for an event that ends a run.
    pub took: Option<i64>,
}

/// Lines of `events`, which are ordered oldest first.
pub fn lines(events: &[TimelineEvent]) -> Vec<Line> {
    let mut seen = HashMap::<Vec<u8>, u32>::new();
    let mut acquired = HashMap::new();
    let mut lines = Vec::with_capacity(events.len());
    for event in events {
        let at = event.at.as_ref().map(timestamp_ms);
        if event.kind() == Kind::Acquired {
            acquired.insert(event.run_no, at);
        }
        let start = acquired.get(&event.run_no).copied().flatten().filter(|_| ends_a_run(event.kind()));
        let took = start.zip(at).map(|(start, end)| end - start).filter(|took| *took >= 0);
        let bytes = if event.kind() == Kind::Progress {
            TimelineEvent { kind: event.kind, run_no: event.run_no, ..TimelineEvent::default() }.encode_to_vec()
        } else {
            event.encode_to_vec()
        };
        let before = seen.entry(bytes.clone()).or_default();
        lines.push(Line {
            key: (bytes, *before),
            kind: event.kind(),
            at,
            run_no: event.run_no,
            session_id: event.session_id.clone(),
            host: event.host.clone(),
            progress: (event.kind() == Kind::Progress).then(|| percent(event.fraction)),
            text: text(&event.text),
            took,
        });
        *before += 1;
    }
    lines.reverse();
    lines
}

pub(super) fn ends_a_run(kind: Kind) -> bool {
    match kind {
        Kind::Completed
        | Kind::AttemptFailed
        | Kind::AttemptTimedOut
        | Kind::Rescued
        | Kind::Released
        | Kind::NoHandler
        | Kind::Snoozed
        | Kind::Cancelled => true,
        Kind::Unspecified
        | Kind::Submitted
        | Kind::Acquired
        | Kind::Progress
        | Kind::Refused
        | Kind::Retried
        | Kind::DeadLetter => false,
    }
}

/// Presentation of an event's text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Text {
    #[default]
    None,
    /// The whole text on one line.
    Short(String),
    /// The beginning of the text, until it is opened.
    Folded { first: String, all: String },
}

fn text(text: &str) -> Text {
    let all = text.trim_end();
    let first = all.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let cut: String = first.chars().take(LINE).collect();
    if all.is_empty() {
        Text::None
    } else if cut == all {
        Text::Short(cut)
    } else {
        Text::Folded { first: cut, all: all.to_owned() }
    }
}

/// Time of the newest event, in milliseconds since 1970.
pub fn newest(events: &[TimelineEvent]) -> Option<i64> {
    events.iter().filter_map(|event| event.at.as_ref().map(timestamp_ms)).max()
}

/// True for an event whose text comes from a program; it is shown unchanged, in the type of code.
pub fn is_error(kind: Kind) -> bool {
    matches!(kind, Kind::AttemptFailed | Kind::AttemptTimedOut | Kind::Rescued)
}

#[cfg(test)]
mod tests {
    use jobqueue_shared::time::timestamp;

    use super::*;

    fn event(kind: Kind, at: i64, run_no: i32) -> TimelineEvent {
        TimelineEvent { kind: kind.into(), at: Some(timestamp(at)), run_no, ..TimelineEvent::default() }
    }

    #[test]
    fn the_newest_comes_first_and_runs_are_timed_by_their_hand_over() {
        let events = [
            event(Kind::Submitted, 1_000, 0),
            event(Kind::Acquired, 2_000, 1),
            event(Kind::AttemptFailed, 2_500, 1),
            event(Kind::Acquired, 9_000, 2),
            event(Kind::Refused, 9_500, 1),
            event(Kind::Completed, 10_000, 2),
        ];
        let lines = lines(&events);
        let kinds: Vec<_> = lines.iter().map(|it| it.kind).collect();
        assert_eq!(kinds[0], Kind::Completed);
        assert_eq!(kinds[5], Kind::Submitted);
        let took: Vec<_> = lines.iter().map(|it| it.took).collect();
        assert_eq!(took, [Some(1_000), None, None, Some(500), None, None]);
    }

    #[test]
    fn the_newest_event_is_not_always_the_last() {
        let mut timeless = event(Kind::Acquired, 0, 1);
        timeless.at = None;
        assert_eq!(newest(&[event(Kind::Submitted, 9, 0), event(Kind::Refused, 5, 1), timeless]), Some(9));
        assert_eq!(newest(&[]), None);
    }

    #[test]
    fn what_cannot_be_timed_is_not() {
        let mut endless = event(Kind::Completed, 0, 3);
        endless.at = None;
        let events = [event(Kind::Cancelled, 5, 0), event(Kind::Rescued, 5, 7), event(Kind::Acquired, 9, 3), endless];
        assert!(lines(&events).iter().all(|line| line.took.is_none()));
        let backwards = [event(Kind::Acquired, 9, 1), event(Kind::AttemptFailed, 8, 1)];
        assert_eq!(lines(&backwards)[0].took, None);
    }

    #[test]
    fn equal_events_have_keys_of_their_own_and_keep_them_when_more_come() {
        let mut events = vec![event(Kind::Refused, 5, 1), event(Kind::Refused, 5, 1)];
        let before = lines(&events);
        assert_ne!(before[0].key, before[1].key);
        events.push(event(Kind::Retried, 6, 1));
        let after = lines(&events);
        assert_eq!([&after[1].key, &after[2].key], [&before[0].key, &before[1].key]);
    }

    #[test]
    fn progress_changes_in_place() {
        let of = |at, fraction| TimelineEvent { fraction, text: format!("{fraction}"), ..event(Kind::Progress, at, 2) };
        let (before, after) = (lines(&[of(5, 0.1)]), lines(&[of(9, 0.7)]));
        assert_eq!(before[0].key, after[0].key);
        assert_ne!(before[0], after[0]);
        assert_eq!([&before[0].progress, &after[0].progress], [&Some("10 %".into()), &Some("70 %".into())]);
        assert_ne!(after[0].key, lines(&[TimelineEvent { run_no: 3, ..of(9, 0.7) }])[0].key);
    }

    #[test]
    fn long_texts_are_folded_and_none_is_lost() {
        assert_eq!(text(""), Text::None);
        assert_eq!(text(" \n"), Text::None);
        assert_eq!(text("boom\n"), Text::Short("boom".into()));
        let all = "\npanicked at 'x'\n  at line 3";
        assert_eq!(text(all), Text::Folded { first: "panicked at 'x'".into(), all: all.into() });
        let long = "ü".repeat(LINE + 1);
        assert_eq!(text(&long), Text::Folded { first: "ü".repeat(LINE), all: long.clone() });
    }
}
