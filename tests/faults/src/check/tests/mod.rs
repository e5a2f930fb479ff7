//! Tests of the checker: histories that it must accept, and for every promise histories that it must reject.

mod model;
mod property;
mod reject;

use self::model::{Lease, Model, Reply, submit, with_key};
use super::check;
use crate::history::{Kind, Move, Outcome, Phase, Recovery, Status, Submit};

fn accepts(model: Model) -> super::Figures {
    let (history, state) = model.finish();
    let report = check(&history, &state);
    for violation in &report.violations {
        println!("{violation}");
    }
    assert_eq!(report.violations, []);
    report.figures
}

/// Model in which `worker-1` has leased one job and started it.
fn leased(submit: &Submit) -> (Model, Lease) {
    let mut model = Model::new();
    model.submit("submitter", std::slice::from_ref(submit), Reply::Told).unwrap();
    let session = model.register("worker-1");
    let lease = model.acquire(session, Reply::Told).unwrap();
    model.start(&lease);
    (model, lease)
}

#[test]
fn an_ordinary_day_is_accepted_and_counted() {
    let (mut model, lease) = leased(&submit("a"));
    assert!(model.settle(&lease, Outcome::Complete, None, Reply::Told));
    model.submit("submitter", &[submit("b"), submit("c")], Reply::Told);
    let figures = accepts(model);
    assert_eq!((figures.submits_acknowledged, figures.jobs_acknowledged, figures.jobs_run), (3, 3, 3));
    assert_eq!((figures.starts, figures.outcomes_accepted), (3, 3));
}

#[test]
fn lost_answers_to_submits_are_accepted_whether_stored_or_not() {
    let mut model = Model::new();
    model.submit("s", &[submit("stored")], Reply::Lost);
    model.submit("s", &[submit("not stored")], Reply::NeverArrived);
    model.submit("s", &[submit("died")], Reply::Died);
    model.submit("s", &[submit("x"), submit("y")], Reply::NeverArrived);
    let keyed = with_key("keyed", "k");
    for reply in [Reply::Lost, Reply::NeverArrived, Reply::Died, Reply::Told, Reply::Told] {
        model.submit("s", std::slice::from_ref(&keyed), reply);
    }
    assert_eq!(model.submit("s", &[with_key("another request", "k")], Reply::Told), None);
    let figures = accepts(model);
    assert_eq!((figures.submits_unknown, figures.submits_failed, figures.submits_deduplicated), (8, 1, 2));
    assert_eq!(figures.jobs_acknowledged, 1);
}

#[test]
fn lost_answers_to_outcomes_are_accepted_when_repeated() {
    for outcome in [Outcome::Complete, Outcome::Fail, Outcome::FailPermanent, Outcome::Snooze, Outcome::Release] {
        let (mut model, lease) = leased(&submit("a"));
        for reply in [Reply::NeverArrived, Reply::Lost, Reply::Died, Reply::Told, Reply::Told] {
            model.settle(&lease, outcome, None, reply);
        }
        let figures = accepts(model);
        assert_eq!(figures.outcomes_unknown, 3);
    }
}

#[test]
fn a_repeat_that_is_accepted_after_the_next_run_began_is_accepted() {
    let (mut model, lease) = leased(&submit("a"));
    assert!(model.settle(&lease, Outcome::Fail, None, Reply::Lost));
    let other = model.register("worker-2");
    let next = model.acquire(other, Reply::Told).unwrap();
    assert!(model.settle(&lease, Outcome::Fail, None, Reply::Told));
    assert!(model.settle(&next, Outcome::Complete, None, Reply::Told));
    accepts(model);
}

#[test]
fn a_takeover_whose_loser_is_refused_is_accepted() {
    let (mut model, lease) = leased(&submit("a"));
    model.fault(1, "worker-1", false, Phase::Begins);
    model.fault(1, "worker-1", false, Phase::Injected);
    model.lose(lease.session);
    model.fault(1, "worker-1", false, Phase::Healed);
    let other = model.register("worker-2");
    let next = model.acquire(other, Reply::Told).unwrap();
    model.start(&next);
    assert!(!model.settle(&lease, Outcome::Complete, None, Reply::Told));
    assert!(!model.settle_as(&next, lease.session, Outcome::Complete, None, Reply::Told));
    assert!(model.settle(&next, Outcome::Complete, None, Reply::Told));
    assert!(!model.settle(&lease, Outcome::Complete, None, Reply::Told));
    let figures = accepts(model);
    assert_eq!((figures.outcomes_refused, figures.faults["kill"]), (3, 1));
    let times = &figures.recovery["kill"];
    assert!(times.samples == 1 && times.median_ms > 0.0 && times.median_ms.total_cmp(&times.max_ms).is_eq());
}

#[test]
fn an_answer_that_arrives_after_somebody_else_has_the_job_is_accepted() {
    let mut model = Model::new();
    model.submit("s", &[submit("a")], Reply::Told);
    let session = model.register("worker-1");
    let lease = model.acquire(session, Reply::Lost).unwrap();
    model.fault(1, "a server", false, Phase::Begins);
    model.lose(session);
    let other = model.register("worker-2");
    let next = model.acquire(other, Reply::Told).unwrap();
    model.heard_of(&lease, 1_003);
    assert!(model.settle(&next, Outcome::Complete, None, Reply::Told));
    assert!(!model.settle(&lease, Outcome::Complete, None, Reply::Told));
    accepts(model);
}

#[test]
fn dead_letters_and_what_people_do_with_them_are_accepted() {
    let (mut model, lease) = leased(&Submit { max_retries: 2, ..submit("a") });
    assert!(model.settle(&lease, Outcome::Fail, Some(50), Reply::Told));
    model.pass(100);
    let second = model.acquire(lease.session, Reply::Told).unwrap();
    assert!(model.settle(&second, Outcome::Fail, None, Reply::Told));
    model.order(lease.job, Move::Retry, Reply::Told);
    model.order(lease.job, Move::Retry, Reply::Told);
    let third = model.acquire(lease.session, Reply::Told).unwrap();
    assert!(model.settle(&third, Outcome::FailPermanent, None, Reply::Told));
    model.order(lease.job, Move::Retry, Reply::Lost);
    model.order(lease.job, Move::Cancel, Reply::Told);
    model.order(lease.job, Move::Retry, Reply::Died);
    accepts(model);
}

#[test]
fn a_cancelled_job_whose_worker_is_refused_is_accepted() {
    let (mut model, lease) = leased(&submit("a"));
    model.order(lease.job, Move::Cancel, Reply::Told);
    assert!(!model.settle(&lease, Outcome::Complete, None, Reply::Told));
    let (history, state) = model.finish();
    assert_eq!(state.jobs[0].status, Status::Cancelled);
    assert_eq!(check(&history, &state).violations, []);
}

#[test]
fn jobs_that_wait_for_their_time_are_accepted() {
    let mut model = Model::new();
    model.submit("s", &[Submit { delay_ms: Some(500), ..submit("a") }], Reply::Told);
    model.submit("s", &[Submit { run_at_ms: Some(900), ..submit("b") }], Reply::Told);
    let session = model.register("worker-1");
    let lease = model.acquire(session, Reply::Told).unwrap();
    assert!(model.settle(&lease, Outcome::Snooze, Some(300), Reply::Told));
    assert!(model.acquire(session, Reply::Told).is_none());
    accepts(model);
}

#[test]
fn a_planned_restart_that_charges_nothing_is_accepted() {
    let (mut model, lease) = leased(&submit("a"));
    model.fault(1, "worker-1", true, Phase::Begins);
    model.fault(1, "worker-1", true, Phase::Injected);
    model.goodbye(lease.session);
    model.fault(1, "worker-1", true, Phase::Healed);
    let figures = accepts(model);
    assert_eq!(figures.recovery["restart"].samples, 1);
}

#[test]
fn recovery_is_the_next_start_of_what_was_handed_out_afterwards() {
    let (mut model, lease) = leased(&submit("a"));
    model.fault(1, "a server", false, Phase::Begins);
    model.fault(1, "a server", false, Phase::Injected);
    // The job was handed out before the fault, so its start says nothing about the server.
    model.start(&lease);
    model.submit("s", &[submit("b")], Reply::Told);
    model.pass(70);
    let next = model.acquire(lease.session, Reply::Told).unwrap();
    model.start(&next);
    let (mut history, state) = model.finish();
    for event in &mut history.events {
        if let Kind::Fault(fault) = &mut event.kind {
            fault.recovery = Recovery::AnyJob;
        }
    }
    let times = check(&history, &state).figures.recovery["kill"].clone();
    assert!(times.samples == 1 && times.max_ms > 70.0 && times.max_ms < 100.0, "{times:?}");
}

#[test]
fn a_hand_over_that_a_crash_of_the_database_forgot_is_accepted() {
    let (mut model, lease) = leased(&submit("a"));
    // The run is handed out again, under another lease.
    let again = Lease { id: "forgotten".to_owned(), ..lease.clone() };
    model.fault(1, "postmaster", false, Phase::Begins);
    model.heard_of(&again, 1_000);
    assert!(model.settle(&lease, Outcome::Complete, None, Reply::Told));
    accepts(model);
}
