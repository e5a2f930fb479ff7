//! Order of the events of a timeline.

use jobqueue_shared::proto::v1::timeline_event::Kind;

use super::event::Event;

/// Sorts events and corrects their times. Servers know the database's clock a few milliseconds late, so that an end can
/// have an earlier time than the start that the database wrote; it then gets the time of the start. The first event is
/// the submission.
pub(super) fn in_order(mut events: Vec<Event>) -> Vec<Event> {
    let submitted_at_ms = events.first().map_or(0, |it| it.at_ms);
    let begun = |events: &[Event], run_no: u32| {
        events.iter().find(|it| it.kind == Kind::Acquired && it.run_no == run_no).cloned()
    };
    for index in 0..events.len() {
        let acquired = begun(&events, events[index].run_no);
        let it = &mut events[index];
        it.at_ms = it.at_ms.max(submitted_at_ms);
        let Some(acquired) = acquired else { continue };
        it.at_ms = it.at_ms.max(acquired.at_ms);
        if it.kind == Kind::Progress {
            (it.session_id, it.host) = (acquired.session_id, acquired.host);
        }
    }
    events.sort_by_key(|it| (it.at_ms, it.run_no, rank(it.kind)));
    events
}

/// Order of events of one run_no at the same time.
pub(super) fn rank(kind: Kind) -> u8 {
    match kind {
        Kind::Unspecified | Kind::Submitted => 0,
        Kind::Acquired => 1,
        Kind::Progress => 2,
        Kind::Completed
        | Kind::AttemptFailed
        | Kind::AttemptTimedOut
        | Kind::Rescued
        | Kind::Released
        | Kind::NoHandler
        | Kind::Snoozed => 3,
        Kind::DeadLetter => 4,
        Kind::Cancelled => 5,
        Kind::Refused => 6,
        Kind::Retried => 7,
    }
}
