//! Rules about runs: one lease at a time, none before the job's time, and no more attempts than allowed.

use uuid::Uuid;

use super::{
    book::{Book, LeaseStory, Story, class, nonce_of, word},
    planned::AFTERMATH_NS,
    report::{Promise, Violation},
};
use crate::history::{Event, FinalJob, Status};

/// Maximum lag, in milliseconds, of a server's estimate of the database's clock behind that clock: readings of it can
/// arrive late.
const BEHIND_MS: i64 = 1_000;

pub(super) fn judge(book: &Book<'_>, violations: &mut Vec<Violation>) {
    for (&job, story) in &book.jobs {
        one_lease_a_run(book, job, story, violations);
        one_lease_at_a_time(job, story, violations);
        within_the_budget(job, story, violations);
        not_before_its_time(book, job, story, violations);
        not_before_its_delay(job, story, violations);
    }
}

/// Run of a job, with its times in milliseconds by the database's clock.
struct Interval {
    run_no: i32,
    session: Option<Uuid>,
    from: i64,
    to: i64,
}

fn intervals(shown: &FinalJob) -> Vec<Interval> {
    const RUNS: [&str; 6] = ["failed", "timed_out", "lost", "released", "snoozed", "cancelled"];
    let lines = shown.attempts.iter().filter(|line| RUNS.contains(&line.outcome.as_str())).filter_map(|line| {
        Some(Interval { run_no: line.run_no, session: line.session, from: line.started_at_ms?, to: line.ended_at_ms })
    });
    let last = (shown.status == Status::Done).then_some(()).and_then(|()| {
        Some(Interval {
            run_no: shown.run_no,
            session: shown.session,
            from: shown.started_at_ms?,
            to: shown.finished_at_ms?,
        })
    });
    let mut intervals: Vec<_> = lines.chain(last).collect();
    intervals.sort_by_key(|it| (it.run_no, it.from));
    intervals
}

fn acquired<'a>(story: &Story<'a>, run: &Interval) -> Option<&'a Event> {
    let mut leases = story.leases.iter();
    leases.find(|it| it.run_no == run.run_no && Some(it.session) == run.session).map(|it| it.acquired)
}

/// Checks that a run number has one lease, except around a crash of the database, which can lose a hand-over and then
/// gives its run number away again.
fn one_lease_a_run(book: &Book<'_>, job: Uuid, story: &Story<'_>, violations: &mut Vec<Violation>) {
    for pair in story.leases.windows(2).filter(|pair| pair[0].run_no == pair[1].run_no) {
        let (first, second) = (pair[0].acquired, pair[1].acquired);
        let (from_ns, to_ns) = (first.at_ns.min(second.at_ns), first.at_ns.max(second.at_ns));
        let crashed = book.faults.iter().any(|span| {
            let until_ns = span.to_ns.saturating_add(AFTERMATH_NS);
            span.fault.crashes_database && span.begins.at_ns <= to_ns && until_ns >= from_ns
        });
        if !crashed {
            let what = format!("run {} of job {job} was handed out under two leases", pair[0].run_no);
            violations.push(story.violation(Promise::OneLease, job, what, [first, second]));
        }
    }
}

fn one_lease_at_a_time(job: Uuid, story: &Story<'_>, violations: &mut Vec<Violation>) {
    let Some(shown) = story.shown else { return };
    let intervals = intervals(shown);
    for pair in intervals.windows(2) {
        let (first, second) = (&pair[0], &pair[1]);
        let events = || acquired(story, first).into_iter().chain(acquired(story, second));
        if first.run_no == second.run_no {
            let what = format!("run {} of job {job} ended twice", first.run_no);
            violations.push(story.violation(Promise::OneLease, job, what, events()));
        } else if second.from < first.to {
            let what = format!(
                "run {} of job {job} began {} ms before run {} ended",
                second.run_no,
                first.to - second.from,
                first.run_no
            );
            violations.push(story.violation(Promise::OneLease, job, what, events()));
        }
    }
}

fn within_the_budget(job: Uuid, story: &Story<'_>, violations: &mut Vec<Violation>) {
    const CHARGED: [&str; 4] = ["failed", "timed_out", "lost", "cancelled"];
    let Some(shown) = story.shown else { return };
    let allowed = shown.max_retries.max(1);
    if let Some(lease) = story.leases.iter().find(|lease| lease.attempt > allowed) {
        let what = format!("attempt {} of job {job}, which has {allowed}", lease.attempt);
        violations.push(story.violation(Promise::Budget, job, what, [lease.acquired]));
        return;
    }
    let retries: Vec<i32> = shown.attempts.iter().filter(|it| it.outcome == "retried").map(|it| it.run_no).collect();
    // Number of retries by a person before a run: each of them starts a new attempt budget.
    let budget_of = |run_no: i32| retries.iter().filter(|&&retried_at| retried_at < run_no).count();
    let mut charged = vec![0; retries.len() + 1];
    for line in shown.attempts.iter().filter(|line| CHARGED.contains(&line.outcome.as_str())) {
        charged[budget_of(line.run_no)] += 1;
    }
    if shown.status == Status::Done {
        charged[budget_of(shown.run_no)] += 1;
    }
    // When no run lies between two retries, the first one's budget stays unused.
    let last = charged.last().copied().unwrap_or_default();
    if let Some(&most) = charged.iter().max()
        && most > allowed
    {
        let what = format!("{most} attempts of job {job} count, which has {allowed}");
        violations.push(story.violation(Promise::Budget, job, what, story.leases.iter().map(|it| it.acquired)));
    } else if shown.status.is_final() && shown.attempt_count != last && shown.attempts.len() < 100 {
        let what = format!("attempt_count of job {job} is {}, and {last} of its runs count", shown.attempt_count);
        violations.push(story.violation(Promise::Budget, job, what, story.leases.iter().map(|it| it.acquired)));
    }
}

fn not_before_its_time(book: &Book<'_>, job: Uuid, story: &Story<'_>, violations: &mut Vec<Violation>) {
    let Some(shown) = story.shown else { return };
    let calls = book.by_nonce.get(nonce_of(&shown.payload).as_str());
    let Some(call) = calls.and_then(|calls| calls.first()).map(|&at| &book.submits[at]) else { return };
    let delayed = call.submit.delay_ms.map(|delay| shown.created_at_ms + delay);
    let Some(run_at) = call.submit.run_at_ms.or(delayed) else { return };
    let handed_out = story.leases.iter().map(|it| (it.run_no, it.started_at_ms, Some(it.acquired)));
    let shown_runs = intervals(shown).into_iter().map(|it| (it.run_no, it.from, acquired(story, &it)));
    let retried_from = retried_from(shown);
    let mut early = handed_out.chain(shown_runs).filter(|(run_no, from, _)| *from < run_at && *run_no <= retried_from);
    if let Some((_, early, acquired)) = early.next() {
        let what = format!("job {job} ran {} ms before its time", run_at - early);
        let events = [call.invoke].into_iter().chain(acquired);
        violations.push(story.violation(Promise::NotEarly, job, what, events));
        return;
    }
    // This check uses the processes' monotonic clock only, and no timestamp of the database.
    let waited_ms = |it: &LeaseStory<'_>| it.acquired.at_ns.saturating_sub(call.invoke.at_ns) as i64 / 1_000_000;
    let delay = call.submit.delay_ms.unwrap_or(0);
    let mut leases = story.leases.iter().filter(|it| it.run_no <= retried_from);
    if let Some(lease) = leases.find(|it| waited_ms(it) + BEHIND_MS < delay) {
        let what = format!("job {job} was to wait {delay} ms and was handed out after {} ms", waited_ms(lease));
        violations.push(story.violation(Promise::NotEarly, job, what, [call.invoke, lease.acquired]));
    }
}

/// Number of the run that preceded the first retry by a person, which lets the job run at once; `i32::MAX` without one.
fn retried_from(shown: &FinalJob) -> i32 {
    let retried = shown.attempts.iter().filter(|line| line.outcome == "retried").map(|line| line.run_no);
    retried.min().unwrap_or(i32::MAX)
}

/// Checks that a job waited as long as its handler asked for.
fn not_before_its_delay(job: Uuid, story: &Story<'_>, violations: &mut Vec<Violation>) {
    let Some(shown) = story.shown else { return };
    let retried_from = retried_from(shown);
    for lease in story.leases.iter().filter(|lease| story.is_only_one(lease) && lease.run_no < retried_from) {
        for settle in lease.settles.iter().filter(|it| it.accepted() == Some(Status::Pending)) {
            let Some(word) = word(settle.outcome) else { continue };
            // When several calls sent this outcome, it is not known which one counted: the shortest delay is checked.
            let same = lease.settles.iter().filter(|it| class(it.outcome) == class(settle.outcome));
            let Some(delay) = same.map(|it| it.delay_ms.unwrap_or(0)).min().filter(|delay| *delay > 0) else {
                continue;
            };
            let line = shown
                .attempts
                .iter()
                .find(|it| it.run_no == lease.run_no && it.session == Some(lease.session) && it.outcome == word);
            let Some(due) = line.map(|line| line.ended_at_ms + delay) else { continue };
            let next = story.leases.iter().find(|it| it.run_no == lease.run_no + 1 && it.started_at_ms < due);
            if let Some(next) = next {
                let early = due - next.started_at_ms;
                let what = format!("run {} of job {job} began {early} ms before it was to", next.run_no);
                let events = settle.events().chain([next.acquired]);
                violations.push(story.violation(Promise::NotEarly, job, what, events));
            }
        }
    }
}
