//! Rules about outcomes: a job accepts one final outcome, and shows the outcomes that were acknowledged.

use uuid::Uuid;

use super::{
    book::{Book, LeaseStory, SettleCall, Story, class, word},
    report::{Promise, Violation},
};
use crate::history::{FinalAttempt, FinalJob, Move, Outcome, Status};

/// Maximum number of timeline entries that a job keeps: older entries may be missing when it has that many.
const LINES: usize = 100;

pub(super) fn judge(book: &Book<'_>, violations: &mut Vec<Violation>) {
    for (&job, story) in &book.jobs {
        finished(job, story, violations);
        moved(job, story, violations);
        let mut judge = Judge { job, story, violations };
        judge.one_outcome();
        for lease in &story.leases {
            for settle in &lease.settles {
                if let Some(status) = settle.accepted() {
                    judge.not_stale(lease, settle);
                    judge.kept(lease, settle, status);
                } else if settle.is_refused() {
                    judge.rightly_refused(lease, settle);
                }
            }
        }
        judge.reported();
    }
}

fn finished(job: Uuid, story: &Story<'_>, violations: &mut Vec<Violation>) {
    if let Some(shown) = story.shown
        && !shown.status.is_final()
    {
        let what = format!("job {job} is still {:?} after everything healed", shown.status);
        violations.push(story.violation(Promise::NothingStuck, job, what, story.last));
    }
}

fn moved(job: Uuid, story: &Story<'_>, violations: &mut Vec<Violation>) {
    for order in story.moves.iter().filter(|it| it.order == Move::Cancel) {
        let undone = story.shown.is_some_and(|shown| shown.status != Status::Cancelled);
        if order.status() == Some(Status::Cancelled) && undone && !story.may_be_retried_after(order.invoke.at_ns) {
            let what = format!("job {job} was cancelled, and nobody retried it");
            let events = [order.invoke].into_iter().chain(order.answer);
            violations.push(story.violation(Promise::OutcomeKept, job, what, events));
        }
    }
}

struct Judge<'b, 'a> {
    job: Uuid,
    story: &'b Story<'a>,
    violations: &'b mut Vec<Violation>,
}

impl<'a> Judge<'_, 'a> {
    fn one_outcome(&mut self) {
        let (job, story) = (self.job, self.story);
        let accepted: Vec<_> = story
            .leases
            .iter()
            .flat_map(|lease| lease.settles.iter().filter_map(move |it| Some((lease, it, it.accepted()?))))
            .collect();
        for (at, (lease, settle, status)) in accepted.iter().enumerate() {
            let contradicts = |other: &&(&LeaseStory<'a>, &SettleCall<'a>, Status)| {
                if other.0.lease == lease.lease {
                    class(other.1.outcome) != class(settle.outcome)
                } else {
                    *status == Status::Done && other.2 == Status::Done
                }
            };
            if let Some(other) = accepted[at + 1..].iter().find(contradicts) {
                let what = format!("two outcomes of job {job} were accepted");
                let events =
                    [lease.acquired, other.0.acquired].into_iter().chain(settle.events()).chain(other.1.events());
                self.violations.push(story.violation(Promise::OneOutcome, job, what, events));
                return;
            }
            let goes_on = status.is_final()
                && (*status == Status::Done || !story.may_be_retried_after(lease.first_said_ns(settle.outcome)));
            if goes_on && let Some(later) = story.later(lease).next() {
                let what = format!("job {job} was {status:?} and was handed out again");
                let events = settle.events().chain([later.acquired]);
                self.violations.push(story.violation(Promise::OneOutcome, job, what, events));
                return;
            }
        }
    }

    /// Checks that an accepted outcome came from the lease's own session, before the job was known to be leased again.
    fn not_stale(&mut self, lease: &LeaseStory<'a>, settle: &SettleCall<'a>) {
        let (job, story) = (self.job, self.story);
        if settle.session != lease.session {
            let what = format!("an outcome of session {} for a lease of session {}", settle.session, lease.session);
            let events = settle.events().chain([lease.acquired]);
            self.violations.push(story.violation(Promise::StaleRefused, job, what, events));
        }
        let Some(next) = story.later(lease).min_by_key(|it| it.acquired.at_ns) else { return };
        // The outcome may have been accepted in time by an earlier call whose answer got lost.
        let said_in_time = lease.settles.iter().any(|it| {
            it.invoke.at_ns < next.acquired.at_ns && class(it.outcome) == class(settle.outcome) && !it.is_refused()
        });
        // The server releases the jobs that a session holds when it ends; a release by the worker then only repeats
        // that.
        let released_before = class(settle.outcome) == Outcome::Release
            && story.shown.is_some_and(|shown| lines(shown, lease).any(|line| line.outcome == "released"));
        if !said_in_time && !released_before {
            let what = format!("an outcome for run {} of job {job} came after run {}", lease.run_no, next.run_no);
            let events = settle.events().chain([lease.acquired, next.acquired]);
            self.violations.push(story.violation(Promise::StaleRefused, job, what, events));
        }
    }

    /// Checks that the job shows the acknowledged outcome.
    fn kept(&mut self, lease: &LeaseStory<'a>, settle: &SettleCall<'a>, status: Status) {
        let (job, story) = (self.job, self.story);
        let Some(shown) = story.shown else { return };
        let wrong = if settle.outcome == Outcome::Complete {
            let is_kept = shown.status == Status::Done
                && shown.run_no == lease.run_no
                && shown.session == Some(settle.session)
                && status == Status::Done;
            (!is_kept).then(|| format!("completion of run {} was acknowledged, and is not shown", lease.run_no))
        } else if let Some(word) = word(settle.outcome)
            && shown.attempts.len() < LINES
            && !lines(shown, lease).any(|line| line.outcome == word)
        {
            Some(format!("run {} was acknowledged as {word}, and its timeline does not say so", lease.run_no))
        } else if status == Status::Failed
            && shown.status != Status::Failed
            && !story.may_be_retried_after(lease.first_said_ns(settle.outcome))
        {
            Some(format!("job {job} had failed for good, nobody retried it, and it is {:?}", shown.status))
        } else {
            None
        };
        if let Some(what) = wrong {
            let events = settle.events().chain([lease.acquired]);
            self.violations.push(story.violation(Promise::OutcomeKept, job, what, events));
        }
    }

    /// Checks that a refused outcome was not accepted before, and that the timeline shows the refusal.
    fn rightly_refused(&mut self, lease: &LeaseStory<'a>, settle: &SettleCall<'a>) {
        let (job, story) = (self.job, self.story);
        let Some(shown) = story.shown.filter(|_| story.is_only_one(lease)) else { return };
        let is_done =
            shown.status == Status::Done && shown.run_no == lease.run_no && shown.session == Some(lease.session);
        let counted = match word(settle.outcome) {
            Some(word) => lines(shown, lease).any(|line| line.outcome == word),
            None => settle.outcome == Outcome::Complete && is_done,
        };
        if counted && settle.session == lease.session {
            let what = format!("{:?} of run {} was refused, and is what counts", settle.outcome, lease.run_no);
            let events = settle.events().chain([lease.acquired]);
            self.violations.push(story.violation(Promise::RepeatAccepted, job, what, events));
        }
        // A hand-over that a crash of the database forgot has no attempt to which the refusal could belong.
        let ended = is_done || lines(shown, lease).any(|line| line.started_at_ms.is_some());
        let is_told = shown.attempts.iter().any(|line| line.run_no == lease.run_no && line.outcome == "refused");
        if ended && !is_told && shown.attempts.len() < LINES {
            let what =
                format!("{:?} of run {} was refused, and the timeline does not say so", settle.outcome, lease.run_no);
            let events = settle.events().chain([lease.acquired]);
            self.violations.push(story.violation(Promise::RefusalShown, job, what, events));
        }
    }

    /// Checks that a worker sent every outcome that the job attributes to it.
    fn reported(&mut self) {
        let (job, story) = (self.job, self.story);
        let Some(shown) = story.shown else { return };
        let said = |run_no: i32, session: Option<Uuid>, outcome: Outcome| {
            let leases = story.leases.iter().filter(|it| it.run_no == run_no && Some(it.session) == session);
            leases.flat_map(|it| &it.settles).any(|it| class(it.outcome) == outcome)
        };
        if shown.status == Status::Done && !said(shown.run_no, shown.session, Outcome::Complete) {
            let what = format!("job {job} is done, and the session that it names never said so");
            self.violations.push(story.violation(Promise::NothingInvented, job, what, []));
        }
        for line in &shown.attempts {
            let outcome = match line.outcome.as_str() {
                "failed" => Outcome::Fail,
                "snoozed" => Outcome::Snooze,
                _ => continue,
            };
            if !said(line.run_no, line.session, outcome) {
                let what = format!("run {} of job {job} is {}, and nobody said so", line.run_no, line.outcome);
                self.violations.push(story.violation(Promise::NothingInvented, job, what, []));
            }
        }
    }
}

/// Timeline entries of the lease's run, as far as the run number and the session identify it.
fn lines<'b>(shown: &'b FinalJob, lease: &LeaseStory<'_>) -> impl Iterator<Item = &'b FinalAttempt> {
    let (run_no, session) = (lease.run_no, Some(lease.session));
    shown
        .attempts
        .iter()
        .filter(move |line| line.run_no == run_no && line.session == session && line.outcome != "refused")
}
