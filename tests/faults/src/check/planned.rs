//! Rule about planned stops: where nothing else disturbed a session, no attempt is used up.

use super::{
    book::Book,
    report::{Promise, Violation},
};

/// Time after its healing for which a fault may still have effects: connections are made again and waiting calls done.
pub(super) const AFTERMATH_NS: u64 = 5_000_000_000;

pub(super) fn judge(book: &Book<'_>, violations: &mut Vec<Violation>) {
    let unplanned = || book.faults.iter().filter(|span| !span.fault.planned);
    for (&job, story) in &book.jobs {
        let Some(shown) = story.shown else { continue };
        for line in shown.attempts.iter().filter(|line| line.outcome == "lost") {
            let Some(life) = line.session.and_then(|session| book.sessions.get(&session)) else { continue };
            let is_disturbed = unplanned()
                .any(|span| span.begins.at_ns <= life.to_ns && span.to_ns.saturating_add(AFTERMATH_NS) >= life.from_ns);
            if is_disturbed || life.silent {
                continue;
            }
            let what = format!(
                "run {} of job {job} was lost with a session of {}, which met nothing but planned stops",
                line.run_no, life.process
            );
            let planned = book.faults.iter().filter(|span| {
                span.fault.planned && span.begins.at_ns >= life.from_ns && span.begins.at_ns <= life.to_ns
            });
            let acquired = story.leases.iter().find(|it| it.run_no == line.run_no && Some(it.session) == line.session);
            let events = planned
                .max_by_key(|span| span.begins.at_ns)
                .map(|span| span.begins)
                .into_iter()
                .chain(acquired.map(|it| it.acquired));
            violations.push(story.violation(Promise::PlannedStopFree, job, what, events));
        }
    }
}
