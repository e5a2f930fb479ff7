//! Property tests of the checker: it accepts every history of the model, and rejects every history that was falsified.

use proptest::{prelude::*, sample::Index};
use uuid::Uuid;

use super::{
    super::check,
    model::{Lease, Model, Reply, submit, with_key},
};
use crate::history::{FinalState, History, Kind, Move, Outcome, Phase, Status, Submit};

/// Step of a random history; a step that is not possible in the present state is left out.
#[derive(Clone, Debug)]
enum Step {
    Submit { new: u8, key: Option<u8>, max_retries: i32, delay_ms: Option<i64>, reply: Reply },
    Batch { jobs: u8, reply: Reply },
    Register,
    Acquire { session: Index, reply: Reply },
    Settle { lease: Index, outcome: Outcome, delay_ms: Option<i64>, reply: Reply },
    SettleForeign { lease: Index, session: Index },
    Lose { session: Index },
    Goodbye { session: Index },
    Order { job: Index, order: Move, reply: Reply },
    Pass { ms: i64 },
}

fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![5 => Just(Reply::Told), 1 => Just(Reply::Lost), 1 => Just(Reply::Died), 1 => Just(Reply::NeverArrived)]
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop::sample::select(vec![
        Outcome::Complete,
        Outcome::Complete,
        Outcome::Fail,
        Outcome::FailPermanent,
        Outcome::Snooze,
        Outcome::Release,
    ]);
    let order = prop::sample::select(vec![Move::Cancel, Move::Retry]);
    let delay = || prop::option::weighted(0.3, 0_i64..40);
    prop_oneof![
        4 => (any::<u8>(), prop::option::of(0_u8..4), 0..4_i32, delay(), reply()).prop_map(
            |(new, key, max_retries, delay_ms, reply)| Step::Submit { new, key, max_retries, delay_ms, reply }
        ),
        1 => (2_u8..5, reply()).prop_map(|(jobs, reply)| Step::Batch { jobs, reply }),
        1 => Just(Step::Register),
        6 => (any::<Index>(), reply()).prop_map(|(session, reply)| Step::Acquire { session, reply }),
        6 => (any::<Index>(), outcome, delay(), reply())
            .prop_map(|(lease, outcome, delay_ms, reply)| Step::Settle { lease, outcome, delay_ms, reply }),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(lease, session)| Step::SettleForeign { lease, session }),
        1 => any::<Index>().prop_map(|session| Step::Lose { session }),
        1 => any::<Index>().prop_map(|session| Step::Goodbye { session }),
        1 => (any::<Index>(), order, reply()).prop_map(|(job, order, reply)| Step::Order { job, order, reply }),
        1 => (0_i64..50).prop_map(|ms| Step::Pass { ms }),
    ]
}

fn run(steps: Vec<Step>) -> (History, FinalState) {
    let mut model = Model::new();
    // Sessions are lost at any time.
    model.fault(1, "everything", false, Phase::Begins);
    let mut sessions = vec![model.register("worker-0")];
    let mut leases: Vec<Lease> = Vec::new();
    let mut jobs: Vec<Uuid> = Vec::new();
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Submit { new, key, max_retries, delay_ms, reply } => {
                let submit = match key {
                    // An idempotency key has several requests, most of them equal.
                    Some(key) => with_key(&format!("key {key} {}", new / 200), &format!("k{key}")),
                    None => Submit { max_retries, delay_ms, ..submit(&format!("new {number}")) },
                };
                jobs.extend(model.submit("submitter", &[submit], reply).into_iter().flatten());
            }
            Step::Batch { jobs: count, reply } => {
                let batch: Vec<_> = (0..count).map(|n| submit(&format!("batch {number} {n}"))).collect();
                jobs.extend(model.submit("submitter", &batch, reply).into_iter().flatten());
            }
            Step::Register => sessions.push(model.register(&format!("worker-{number}"))),
            Step::Acquire { session, reply } => {
                let lease = model.acquire(*session.get(&sessions), reply);
                // A worker settles no lease that it did not receive.
                leases.extend(lease.filter(|_| reply == Reply::Told));
            }
            Step::Settle { lease, outcome, delay_ms, reply } if !leases.is_empty() => {
                let lease = lease.get(&leases).clone();
                let delay_ms = delay_ms.filter(|_| matches!(outcome, Outcome::Fail | Outcome::Snooze));
                model.settle(&lease, outcome, delay_ms, reply);
            }
            Step::SettleForeign { lease, session } if !leases.is_empty() => {
                let lease = lease.get(&leases).clone();
                model.settle_as(&lease, *session.get(&sessions), Outcome::Complete, None, Reply::Told);
            }
            Step::Lose { session } => model.lose(*session.get(&sessions)),
            Step::Goodbye { session } => {
                let session = *session.get(&sessions);
                if model.is_alive(session) {
                    model.goodbye(session);
                }
            }
            Step::Order { job, order, reply } if !jobs.is_empty() => model.order(*job.get(&jobs), order, reply),
            Step::Pass { ms } => model.pass(ms),
            Step::Settle { .. } | Step::SettleForeign { .. } | Step::Order { .. } => {}
        }
    }
    model.finish()
}

/// Falsified copies of the record, each with one change that breaks a promise.
fn lies(history: &History, state: &FinalState) -> Vec<(String, History, FinalState)> {
    let mut lies = Vec::new();
    let mut shown = |what: &str, at: usize, change: &dyn Fn(&mut FinalState)| {
        let mut state = state.clone();
        change(&mut state);
        lies.push((format!("{what} {at}"), history.clone(), state));
    };
    for (at, job) in state.jobs.iter().enumerate() {
        let acknowledged = history
            .kinds()
            .any(|kind| matches!(kind, Kind::SubmitOk { job: acknowledged, .. } if *acknowledged == job.id));
        if acknowledged {
            shown("lost", at, &|state| drop(state.jobs.remove(at)));
            shown("changed", at, &|state| state.jobs[at].payload.push(' '));
        }
        shown("stuck", at, &|state| state.jobs[at].status = Status::Pending);
        shown("invented", at, &|state| state.jobs[at].payload = "{}".to_owned());
        shown("twice", at, &|state| {
            let mut twin = state.jobs[at].clone();
            twin.id = Uuid::max();
            state.jobs.push(twin);
        });
        shown("miscounted", at, &|state| state.jobs[at].attempt_count += 1);
        if job.status == Status::Done {
            shown("another session", at, &|state| state.jobs[at].session = Some(Uuid::max()));
        }
        if let Some(line) = job.attempts.iter().position(|it| it.outcome == "refused")
            && job.attempts.iter().filter(|it| it.outcome == "refused").count() == 1
            && history.kinds().any(|kind| matches!(kind, Kind::SettleRefused { job: it, .. } if *it == job.id))
            && hears_of_all_runs(history, job.id, job.run_no)
        {
            shown("hidden refusal", at, &|state| drop(state.jobs[at].attempts.remove(line)));
        }
        if let Some(line) = job.attempts.iter().position(|it| it.started_at_ms.is_some() && it.run_no < job.run_no)
            && job.status == Status::Done
            && job.attempts[line].run_no + 1 == job.run_no
        {
            let later = job.started_at_ms.unwrap_or_default() + 1;
            shown("overlap", at, &|state| state.jobs[at].attempts[line].ended_at_ms = later);
        }
    }
    for (at, event) in history.events.iter().enumerate() {
        let mut history = history.clone();
        let what = match &mut history.events[at].kind {
            Kind::SettleRefused { call, session, lease, job, run_no, outcome, .. } => {
                let (lease, status) = (lease.clone(), Status::Pending);
                history.events[at].kind = Kind::SettleOk {
                    call: *call,
                    session: *session,
                    lease,
                    job: *job,
                    run_no: *run_no,
                    outcome: *outcome,
                    status,
                };
                "accepted"
            }
            Kind::SubmitOk { job, .. } => {
                *job = Uuid::max();
                "lost"
            }
            Kind::Acquired { payload, .. } => {
                payload.push(' ');
                "handed out changed"
            }
            _ => continue,
        };
        lies.push((format!("{what} {at}: {event:?}"), history, state.clone()));
    }
    lies
}

/// True if an answer told of each of the job's runs. A refusal of a lease that no answer told of cannot be checked: no
/// worker is known to have settled it.
fn hears_of_all_runs(history: &History, job: Uuid, run_no: i32) -> bool {
    (1..=run_no).all(|run| {
        history
            .kinds()
            .any(|kind| matches!(kind, Kind::Acquired { job: it, run_no, .. } if *it == job && *run_no == run))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn what_a_true_queue_does_is_accepted_and_a_lie_about_it_is_caught(
        steps in prop::collection::vec(step(), 1..60),
        choice: Index,
    ) {
        let (history, state) = run(steps);
        let report = check(&history, &state);
        let told: String = report.violations.iter().map(ToString::to_string).collect();
        prop_assert!(report.violations.is_empty(), "{told}");
        let lies = lies(&history, &state);
        if !lies.is_empty() {
            let (what, history, state) = choice.get(&lies);
            prop_assert!(!check(history, state).violations.is_empty(), "not caught: {what}");
        }
    }
}
