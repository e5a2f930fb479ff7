//! Histories that break a promise: for each promise, the reported violation and the events in its excerpt.

use uuid::Uuid;

use super::{
    super::{Promise, check, report::Violation},
    leased,
    model::{Lease, Model, Reply, submit, with_key},
};
use crate::history::{Event, FinalState, History, Kind, Move, Outcome, Phase, Status, Submit};

/// The single violation that the checker reports.
fn broken(history: &History, state: &FinalState) -> Violation {
    let report = check(history, state);
    let told: String = report.violations.iter().map(ToString::to_string).collect();
    assert_eq!(report.violations.len(), 1, "{told}");
    report.violations.into_iter().next().unwrap()
}

/// The broken promise, and the kinds of the events that prove it.
fn told(history: &History, state: &FinalState) -> (Promise, Vec<String>) {
    let violation = broken(history, state);
    let kinds = violation.excerpt.iter().map(|event| serde_json::to_value(&event.kind).unwrap()["kind"].clone());
    (violation.promise, kinds.map(|kind| kind.as_str().unwrap().to_owned()).collect())
}

/// History without a fault: the job that is returned ran well, another one too.
fn good_day() -> (History, FinalState, Uuid) {
    let (mut model, lease) = leased(&submit("a"));
    assert!(model.settle(&lease, Outcome::Complete, None, Reply::Told));
    model.submit("submitter", &[submit("b")], Reply::Told);
    let (history, state) = model.finish();
    (history, state, lease.job)
}

fn event(history: &mut History, is: impl Fn(&Kind) -> bool) -> &mut Event {
    history.events.iter_mut().find(|event| is(&event.kind)).unwrap()
}

/// Turns the refusal of an outcome into its acceptance.
fn accept_refused(history: &mut History, status: Status) {
    let event = event(history, |kind| matches!(kind, Kind::SettleRefused { .. }));
    let Kind::SettleRefused { call, session, lease, job, run_no, outcome, .. } = event.kind.clone() else { panic!() };
    event.kind = Kind::SettleOk { call, session, lease, job, run_no, outcome, status };
}

#[test]
fn an_acknowledged_job_that_is_not_there() {
    let (history, mut state, job) = good_day();
    state.jobs.retain(|it| it.id != job);
    assert_eq!(told(&history, &state), (Promise::NothingLost, vec!["submit_invoke".into(), "submit_ok".into()]));
    let violation = broken(&history, &state);
    assert_eq!(violation.job, Some(job));
    let text = violation.to_string();
    assert!(text.contains("an acknowledged submit is stored") && text.contains(&job.to_string()), "{text}");
    assert_eq!(text.lines().count(), 4, "{text}");
}

#[test]
fn a_job_that_never_finishes() {
    for status in [Status::Pending, Status::Running] {
        let mut model = Model::new();
        model.submit("s", &[submit("a")], Reply::Told);
        let (mut history, mut state) = model.finish();
        history.events.truncate(2);
        state.jobs[0].status = status;
        let (promise, kinds) = told(&history, &state);
        assert_eq!((promise, kinds.as_slice()), (Promise::NothingStuck, &["submit_ok".to_owned()][..]));
    }
}

#[test]
fn a_job_that_nobody_submitted() {
    let (history, mut state, _) = good_day();
    let mut extra = state.jobs[0].clone();
    extra.id = Uuid::max();
    extra.payload = r#"{"nonce":"nobody's"}"#.to_owned();
    extra.status = Status::Cancelled;
    extra.attempt_count = 0;
    state.jobs.push(extra);
    assert_eq!(told(&history, &state), (Promise::NothingInvented, vec![]));

    let (mut history, state, _) = good_day();
    let Kind::Acquired { payload, .. } = &mut event(&mut history, |it| matches!(it, Kind::Acquired { .. })).kind else {
        panic!()
    };
    *payload = r#"{"nonce":"nobody's"}"#.to_owned();
    assert_eq!(told(&history, &state), (Promise::NothingInvented, vec!["acquired".into()]));
}

#[test]
fn an_end_that_nobody_told() {
    let (mut history, state, job) = good_day();
    history.events.retain(|event| match &event.kind {
        Kind::SettleInvoke { job: it, .. } | Kind::SettleOk { job: it, .. } => *it != job,
        _ => true,
    });
    assert_eq!(told(&history, &state), (Promise::NothingInvented, vec![]));

    let (history, mut state, job) = good_day();
    let shown = state.jobs.iter_mut().find(|it| it.id == job).unwrap();
    let mut model_line = leased(&submit("x"));
    model_line.0.settle(&model_line.1, Outcome::Fail, None, Reply::Told);
    let mut line = model_line.0.finish().1.jobs[0].attempts[0].clone();
    (line.run_no, line.started_at_ms, line.ended_at_ms) = (0, Some(1), 1);
    shown.attempts.push(line);
    shown.attempt_count += 1;
    assert_eq!(told(&history, &state), (Promise::NothingInvented, vec![]));
}

#[test]
fn a_refused_submit_that_is_stored() {
    let (mut history, state, job) = good_day();
    let event = event(&mut history, |it| matches!(it, Kind::SubmitOk { job: it, .. } if *it == job));
    let Kind::SubmitOk { call, place, .. } = event.kind else { panic!() };
    event.kind = Kind::SubmitFailed { call, place, conflict: false, error: "max_retries".to_owned() };
    assert_eq!(told(&history, &state), (Promise::AllOrNothing, vec!["submit_invoke".into(), "submit_failed".into()]));
}

#[test]
fn a_batch_that_is_stored_in_part() {
    let mut model = Model::new();
    model.submit("s", &[submit("a"), submit("b"), submit("c")], Reply::Lost);
    let (mut history, mut state) = model.finish();
    let gone = state.jobs.pop().unwrap().id;
    history.events.retain(|event| match &event.kind {
        Kind::Acquired { job, .. }
        | Kind::Started { job, .. }
        | Kind::SettleInvoke { job, .. }
        | Kind::SettleOk { job, .. } => *job != gone,
        _ => true,
    });
    let (promise, kinds) = told(&history, &state);
    assert_eq!((promise, kinds.len()), (Promise::AllOrNothing, 4));
}

#[test]
fn one_request_that_made_two_jobs() {
    let mut model = Model::new();
    model.submit("s", &[submit("a")], Reply::Lost);
    model.submit("s", &[submit("a")], Reply::Lost);
    let (mut history, state) = model.finish();
    let second = history.events.iter().rposition(|it| matches!(it.kind, Kind::SubmitInvoke { .. })).unwrap();
    history.events.drain(second..second + 2);
    assert_eq!(told(&history, &state), (Promise::StoredOnce, vec!["submit_invoke".into(), "submit_unknown".into()]));
}

#[test]
fn a_job_that_is_not_what_was_submitted() {
    let changes: [fn(&mut crate::history::FinalJob); 3] = [
        |job| job.payload = r#"{"nonce": "a"}"#.to_owned(),
        |job| job.worker_id = "another".to_owned(),
        |job| job.max_retries = 9,
    ];
    for change in changes {
        let (history, mut state, job) = good_day();
        change(state.jobs.iter_mut().find(|it| it.id == job).unwrap());
        assert_eq!(told(&history, &state), (Promise::Unchanged, vec!["submit_invoke".into(), "submit_ok".into()]));
    }
    let (mut history, state, _) = good_day();
    let Kind::Acquired { payload, .. } = &mut event(&mut history, |it| matches!(it, Kind::Acquired { .. })).kind else {
        panic!()
    };
    *payload = r#"{"nonce": "a"}"#.to_owned();
    let (promise, kinds) = told(&history, &state);
    assert_eq!((promise, kinds.last().unwrap().as_str()), (Promise::Unchanged, "acquired"));
}

#[test]
fn a_key_that_is_two_jobs() {
    let mut model = Model::new();
    model.submit("s", &[with_key("a", "k")], Reply::Told);
    model.submit("s", &[with_key("b", "other")], Reply::Told);
    let (mut history, mut state) = model.finish();
    // The second request is given the first one's key.
    for event in &mut history.events {
        if let Kind::SubmitInvoke { submit, .. } = &mut event.kind {
            submit.key = "k".to_owned();
        }
    }
    state.jobs.iter_mut().for_each(|job| job.key = "k".to_owned());
    let (promise, kinds) = told(&history, &state);
    assert_eq!((promise, kinds.len()), (Promise::OneJobAKey, 4));
}

#[test]
fn a_duplicate_that_is_none() {
    // The job was made by another request.
    let mut model = Model::new();
    model.submit("s", &[with_key("a", "k")], Reply::Told);
    model.submit("s", &[with_key("a", "k")], Reply::Told);
    let (mut history, state) = model.finish();
    let last = history.events.iter_mut().rfind(|it| matches!(it.kind, Kind::SubmitInvoke { .. }));
    let Kind::SubmitInvoke { submit, .. } = &mut last.unwrap().kind else { panic!() };
    submit.payload = r#"{"nonce":"a","more":1}"#.to_owned();
    assert_eq!(told(&history, &state), (Promise::TrueDuplicate, vec!["submit_invoke".into(), "submit_ok".into()]));

    // No earlier job exists.
    let mut model = Model::new();
    model.submit("s", &[with_key("a", "k")], Reply::Told);
    let (mut history, state) = model.finish();
    let Kind::SubmitOk { deduplicated, .. } = &mut event(&mut history, |it| matches!(it, Kind::SubmitOk { .. })).kind
    else {
        panic!()
    };
    *deduplicated = true;
    assert_eq!(told(&history, &state), (Promise::TrueDuplicate, vec!["submit_invoke".into(), "submit_ok".into()]));

    // The second answer does not say `deduplicated`.
    let mut model = Model::new();
    model.submit("s", &[with_key("a", "k")], Reply::Told);
    model.submit("s", &[with_key("a", "k")], Reply::Told);
    let (mut history, state) = model.finish();
    for event in &mut history.events {
        if let Kind::SubmitOk { deduplicated, .. } = &mut event.kind {
            *deduplicated = false;
        }
    }
    let (promise, kinds) = told(&history, &state);
    assert_eq!((promise, kinds.len()), (Promise::TrueDuplicate, 4));
}

#[test]
fn a_request_that_is_refused_for_its_own_key() {
    let mut model = Model::new();
    model.submit("s", &[with_key("a", "k")], Reply::Told);
    model.submit("s", &[with_key("a", "k")], Reply::Told);
    let (mut history, state) = model.finish();
    let last = history.events.iter_mut().rfind(|it| matches!(it.kind, Kind::SubmitOk { .. })).unwrap();
    let Kind::SubmitOk { call, place, .. } = last.kind else { panic!() };
    last.kind = Kind::SubmitFailed { call, place, conflict: true, error: "the key is used".to_owned() };
    assert_eq!(told(&history, &state), (Promise::TrueDuplicate, vec!["submit_invoke".into(), "submit_failed".into()]));
}

#[test]
fn two_outcomes_of_one_lease() {
    let (mut model, lease) = leased(&submit("a"));
    assert!(model.settle(&lease, Outcome::Complete, None, Reply::Told));
    assert!(!model.settle(&lease, Outcome::Fail, None, Reply::Told));
    let (mut history, state) = model.finish();
    accept_refused(&mut history, Status::Pending);
    let report = check(&history, &state);
    assert_eq!(report.broken(Promise::OneOutcome), 1);
    let violation = report.violations.iter().find(|it| it.promise == Promise::OneOutcome).unwrap();
    assert_eq!(violation.excerpt.len(), 5);
}

#[test]
fn two_completions_of_one_job() {
    let (mut model, lease) = leased(&submit("a"));
    model.fault(1, "worker-1", false, Phase::Begins);
    model.lose(lease.session);
    let other = model.register("worker-2");
    let next = model.acquire(other, Reply::Told).unwrap();
    assert!(!model.settle(&lease, Outcome::Complete, None, Reply::Told));
    assert!(model.settle(&next, Outcome::Complete, None, Reply::Told));
    let (mut history, state) = model.finish();
    accept_refused(&mut history, Status::Done);
    let report = check(&history, &state);
    let promises: Vec<_> = report.violations.iter().map(|it| it.promise).collect();
    assert_eq!(promises, [Promise::OneOutcome, Promise::StaleRefused, Promise::OutcomeKept]);
    assert!(report.violations.iter().all(|it| it.excerpt.len() <= 6 && it.job == Some(lease.job)));
}

#[test]
fn a_finished_job_that_is_handed_out_again() {
    let (mut model, lease) = leased(&Submit { max_retries: 1, ..submit("a") });
    assert!(model.settle(&lease, Outcome::Fail, None, Reply::Told));
    model.order(lease.job, Move::Retry, Reply::Told);
    let (mut history, state) = model.finish();
    history.events.retain(|it| !matches!(it.kind, Kind::MoveInvoke { .. } | Kind::MoveOk { .. }));
    let report = check(&history, &state);
    let promises: Vec<_> = report.violations.iter().map(|it| it.promise).collect();
    assert_eq!(promises, [Promise::OneOutcome, Promise::OutcomeKept]);
    assert_eq!(report.violations[0].excerpt.len(), 3);
}

#[test]
fn a_stale_outcome_that_is_accepted() {
    let (mut model, lease) = leased(&submit("a"));
    model.fault(1, "worker-1", false, Phase::Begins);
    model.lose(lease.session);
    let other = model.register("worker-2");
    let next = model.acquire(other, Reply::Told).unwrap();
    assert!(!model.settle(&lease, Outcome::Snooze, None, Reply::Told));
    assert!(model.settle(&next, Outcome::Complete, None, Reply::Told));
    let (mut history, mut state) = model.finish();
    accept_refused(&mut history, Status::Pending);
    // The store shows the stale outcome, too.
    for line in &mut state.jobs[0].attempts {
        if line.outcome == "lost" {
            line.outcome = "snoozed".to_owned();
        }
    }
    state.jobs[0].attempt_count = 1;
    let (promise, kinds) = told(&history, &state);
    assert_eq!(promise, Promise::StaleRefused);
    assert_eq!(kinds, ["acquired", "acquired", "settle_invoke", "settle_ok"]);
}

#[test]
fn an_outcome_by_a_foreign_session_that_is_accepted() {
    let (mut model, lease) = leased(&submit("a"));
    let foreign = model.register("worker-2");
    assert!(!model.settle_as(&lease, foreign, Outcome::Snooze, None, Reply::Told));
    assert!(model.settle(&lease, Outcome::Snooze, None, Reply::Told));
    let (mut history, state) = model.finish();
    accept_refused(&mut history, Status::Pending);
    assert_eq!(
        told(&history, &state),
        (Promise::StaleRefused, vec!["acquired".into(), "settle_invoke".into(), "settle_ok".into()])
    );
}

#[test]
fn an_acknowledged_outcome_that_is_not_shown() {
    for (outcome, word) in [(Outcome::Fail, "failed"), (Outcome::Snooze, "snoozed"), (Outcome::Release, "released")] {
        let (mut model, lease) = leased(&submit("a"));
        assert!(model.settle(&lease, outcome, None, Reply::Told));
        let (history, mut state) = model.finish();
        state.jobs[0].attempts.retain(|it| it.outcome != word);
        state.jobs[0].attempt_count = 1;
        let (promise, kinds) = told(&history, &state);
        assert_eq!((promise, kinds.len()), (Promise::OutcomeKept, 3));
    }
    let (mut model, lease) = leased(&submit("a"));
    model.order(lease.job, Move::Cancel, Reply::Told);
    let (history, mut state) = model.finish();
    state.jobs[0].status = Status::Failed;
    assert_eq!(told(&history, &state), (Promise::OutcomeKept, vec!["move_invoke".into(), "move_ok".into()]));
}

#[test]
fn a_completion_that_was_refused_and_counts() {
    let (mut model, lease) = leased(&submit("a"));
    assert!(model.settle(&lease, Outcome::Complete, None, Reply::Lost));
    assert!(model.settle(&lease, Outcome::Complete, None, Reply::Told));
    let (mut history, mut state) = model.finish();
    let event = event(&mut history, |kind| matches!(kind, Kind::SettleOk { .. }));
    let Kind::SettleOk { call, session, lease, job, run_no, outcome, .. } = event.kind.clone() else { panic!() };
    event.kind = Kind::SettleRefused { call, session, lease, job, run_no, outcome, error: "stale".to_owned() };
    let report = check(&history, &state);
    assert_eq!(report.broken(Promise::RepeatAccepted), 1);
    assert_eq!(report.broken(Promise::RefusalShown), 1);
    let mut line = state.jobs[0].attempts.first().cloned().unwrap_or_else(|| crate::history::FinalAttempt {
        run_no,
        outcome: String::new(),
        session: Some(session),
        started_at_ms: None,
        ended_at_ms: 0,
        error: String::new(),
    });
    line.outcome = "refused".to_owned();
    state.jobs[0].attempts.push(line);
    let (promise, kinds) = told(&history, &state);
    assert_eq!((promise, kinds.len()), (Promise::RepeatAccepted, 3));
}

#[test]
fn a_refusal_that_the_timeline_hides() {
    let (mut model, lease) = leased(&submit("a"));
    model.order(lease.job, Move::Cancel, Reply::Told);
    assert!(!model.settle(&lease, Outcome::Complete, None, Reply::Told));
    let (history, mut state) = model.finish();
    state.jobs[0].attempts.retain(|it| it.outcome != "refused");
    let (promise, kinds) = told(&history, &state);
    assert_eq!((promise, kinds.len()), (Promise::RefusalShown, 3));
}

#[test]
fn leases_that_overlap() {
    let (mut model, lease) = leased(&submit("a"));
    assert!(model.settle(&lease, Outcome::Fail, None, Reply::Told));
    let next = model.acquire(lease.session, Reply::Told).unwrap();
    assert!(model.settle(&next, Outcome::Complete, None, Reply::Told));
    let (history, state) = model.finish();
    let mut late = state.clone();
    late.jobs[0].attempts[0].ended_at_ms = late.jobs[0].started_at_ms.unwrap() + 1;
    let (promise, kinds) = told(&history, &late);
    assert_eq!((promise, kinds.as_slice()), (Promise::OneLease, &["acquired".to_owned(), "acquired".to_owned()][..]));
    let mut twice = state;
    let line = twice.jobs[0].attempts[0].clone();
    twice.jobs[0].attempts.push(line);
    twice.jobs[0].attempt_count += 1;
    let (promise, kinds) = told(&history, &twice);
    assert_eq!((promise, kinds.len()), (Promise::OneLease, 1));
}

#[test]
fn a_run_that_is_handed_out_under_two_leases() {
    let (mut model, lease) = leased(&submit("a"));
    model.heard_of(&Lease { id: "another".to_owned(), ..lease.clone() }, 1_000);
    assert!(model.settle(&lease, Outcome::Complete, None, Reply::Told));
    let (history, state) = model.finish();
    assert_eq!(told(&history, &state), (Promise::OneLease, vec!["acquired".into(), "acquired".into()]));
}

#[test]
fn more_attempts_than_allowed() {
    let (mut model, lease) = leased(&Submit { max_retries: 2, ..submit("a") });
    assert!(model.settle(&lease, Outcome::Fail, None, Reply::Told));
    let (history, state) = model.finish();
    let mut fewer = state.clone();
    let mut asked = history.clone();
    fewer.jobs[0].max_retries = 1;
    let Kind::SubmitInvoke { submit, .. } = &mut event(&mut asked, |it| matches!(it, Kind::SubmitInvoke { .. })).kind
    else {
        panic!()
    };
    submit.max_retries = 1;
    assert_eq!(told(&asked, &fewer), (Promise::Budget, vec!["acquired".into()]));

    let mut miscounted = state;
    miscounted.jobs[0].attempt_count = 1;
    let (promise, kinds) = told(&history, &miscounted);
    assert_eq!((promise, kinds.len()), (Promise::Budget, 2));

    // The attempt number in the server's answers hides it, too.
    for event in &mut asked.events {
        if let Kind::Acquired { attempt, .. } = &mut event.kind {
            *attempt = 1;
        }
    }
    let (promise, kinds) = told(&asked, &fewer);
    assert_eq!((promise, kinds.len()), (Promise::Budget, 2));
}

#[test]
fn a_run_before_its_time() {
    for late in [Submit { delay_ms: Some(60_000), ..submit("a") }, Submit { run_at_ms: Some(1_000_000), ..submit("a") }]
    {
        let (mut model, lease) = leased(&submit("a"));
        assert!(model.settle(&lease, Outcome::Complete, None, Reply::Told));
        let (mut history, state) = model.finish();
        let Kind::SubmitInvoke { submit, .. } =
            &mut event(&mut history, |it| matches!(it, Kind::SubmitInvoke { .. })).kind
        else {
            panic!()
        };
        *submit = late;
        assert_eq!(told(&history, &state), (Promise::NotEarly, vec!["submit_invoke".into(), "acquired".into()]));
    }
    // The database's times are right; the monotonic times of the processes show the job as handed out too early.
    let mut model = Model::new();
    model.submit("s", &[Submit { delay_ms: Some(60_000), ..submit("a") }], Reply::Told);
    let (mut history, state) = model.finish();
    event(&mut history, |it| matches!(it, Kind::Acquired { .. })).at_ns -= 50_000_000_000;
    assert_eq!(told(&history, &state), (Promise::NotEarly, vec!["submit_invoke".into(), "acquired".into()]));

    let (mut model, lease) = leased(&submit("a"));
    assert!(model.settle(&lease, Outcome::Snooze, Some(1), Reply::Told));
    model.pass(5);
    let next = model.acquire(lease.session, Reply::Told).unwrap();
    assert!(model.settle(&next, Outcome::Complete, None, Reply::Told));
    let (mut history, state) = model.finish();
    let event = event(&mut history, |kind| matches!(kind, Kind::SettleInvoke { delay_ms: Some(_), .. }));
    let Kind::SettleInvoke { delay_ms, .. } = &mut event.kind else { panic!() };
    *delay_ms = Some(1_000);
    assert_eq!(
        told(&history, &state),
        (Promise::NotEarly, vec!["settle_invoke".into(), "settle_ok".into(), "acquired".into()])
    );
}

#[test]
fn a_planned_stop_that_used_an_attempt() {
    for (planned, breaks) in [(true, true), (false, false)] {
        let (mut model, lease) = leased(&submit("a"));
        model.fault(1, "worker-1", planned, Phase::Begins);
        model.fault(1, "worker-1", planned, Phase::Injected);
        model.lose(lease.session);
        model.fault(1, "worker-1", planned, Phase::Healed);
        let (history, state) = model.finish();
        if breaks {
            assert_eq!(told(&history, &state), (Promise::PlannedStopFree, vec!["acquired".into(), "fault".into()]));
        } else {
            assert_eq!(check(&history, &state).violations, []);
        }
    }
}
