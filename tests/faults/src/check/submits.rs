//! Rules about submits: an acknowledged job is stored once and unchanged, and no other job is stored.

use std::collections::{BTreeMap, HashMap, HashSet};

use uuid::Uuid;

use super::{
    book::{Book, SubmitCall, nonce_of, violation},
    report::{Promise, Violation},
};
use crate::history::{FinalJob, Kind, Submit};

pub(super) fn judge(book: &Book<'_>, violations: &mut Vec<Violation>) {
    acknowledged_are_stored(book, violations);
    stored_were_submitted(book, violations);
    handed_out_were_submitted(book, violations);
    batches_are_whole(book, violations);
    keys_are_jobs(book, violations);
}

fn acknowledged_are_stored(book: &Book<'_>, violations: &mut Vec<Violation>) {
    for call in &book.submits {
        let Some((job, deduplicated, _)) = call.accepted() else { continue };
        let Some(shown) = book.jobs.get(&job).and_then(|story| story.shown) else {
            let what = format!("job {job} was acknowledged and is not there");
            violations.push(violation(Promise::NothingLost, Some(job), what, call.events(), None));
            continue;
        };
        if let Some(field) = difference(call.submit, shown) {
            let (promise, what) = if deduplicated {
                (Promise::TrueDuplicate, format!("job {job} is another request's: its {field} differs"))
            } else {
                (Promise::Unchanged, format!("the {field} of job {job} is not what was submitted"))
            };
            violations.push(violation(promise, Some(job), what, call.events(), Some(shown)));
        }
    }
}

fn difference(submit: &Submit, shown: &FinalJob) -> Option<&'static str> {
    if submit.payload != shown.payload {
        Some("payload")
    } else if submit.worker_id != shown.worker_id {
        Some("worker_id")
    } else if submit.max_retries != shown.max_retries {
        Some("max_retries")
    } else if !submit.key.is_empty() && submit.key != shown.key {
        // A job without a key shows none; keys are forgotten some time after it finished.
        (!shown.key.is_empty()).then_some("idempotency_key")
    } else {
        None
    }
}

fn stored_were_submitted(book: &Book<'_>, violations: &mut Vec<Violation>) {
    for (nonce, jobs) in &book.stored {
        let calls: Vec<_> =
            book.by_nonce.get(nonce.as_str()).into_iter().flatten().map(|&at| &book.submits[at]).collect();
        if calls.is_empty() {
            for job in jobs {
                let what = format!("nobody submitted job {}", job.id);
                violations.push(violation(Promise::NothingInvented, Some(job.id), what, [], Some(job)));
            }
            continue;
        }
        if calls.iter().all(|call| call.is_refused()) {
            let what = format!("job {} is stored, and every submit of it was refused", jobs[0].id);
            let events = calls.iter().flat_map(|call| call.events());
            violations.push(violation(Promise::AllOrNothing, Some(jobs[0].id), what, events, Some(jobs[0])));
        }
        if let [first, second, ..] = jobs[..] {
            let what = format!("one request made {} jobs, among them {} and {}", jobs.len(), first.id, second.id);
            let events = calls.iter().flat_map(|call| call.events());
            violations.push(violation(Promise::StoredOnce, Some(second.id), what, events, Some(second)));
        }
    }
}

fn handed_out_were_submitted(book: &Book<'_>, violations: &mut Vec<Violation>) {
    for (&job, story) in &book.jobs {
        for lease in &story.leases {
            let calls = book.by_nonce.get(nonce_of(lease.payload).as_str());
            let Some(call) = calls.and_then(|calls| calls.first()).map(|&at| &book.submits[at]) else {
                let what = format!("nobody submitted job {job}, which was handed out");
                violations.push(story.violation(Promise::NothingInvented, job, what, [lease.acquired]));
                continue;
            };
            let own = book.submits.iter().find(|it| it.accepted().is_some_and(|(accepted, ..)| accepted == job));
            let call = own.unwrap_or(call);
            if call.submit.payload != lease.payload {
                let what = format!("job {job} was handed out with another payload than was submitted");
                let events = call.events().chain([lease.acquired]);
                violations.push(story.violation(Promise::Unchanged, job, what, events));
            }
        }
    }
}

fn batches_are_whole(book: &Book<'_>, violations: &mut Vec<Violation>) {
    let mut batches: BTreeMap<(&str, u64), Vec<&SubmitCall<'_>>> = BTreeMap::new();
    for call in book.submits.iter().filter(|call| call.of > 1) {
        if let Kind::SubmitInvoke { call: number, .. } = call.invoke.kind {
            batches.entry((&call.invoke.process, number)).or_default().push(call);
        }
    }
    for calls in batches.values() {
        let (stored, missing): (Vec<&SubmitCall<'_>>, Vec<_>) =
            calls.iter().partition(|call| book.stored.contains_key(&call.submit.nonce));
        // A missing job that was acknowledged is reported by the rule about lost jobs.
        if let (Some(stored), Some(missing)) = (stored.first(), missing.first())
            && missing.accepted().is_none()
        {
            let shown = book.stored[&stored.submit.nonce][0];
            let what = format!("of a batch job {} is stored and another one is not", shown.id);
            let events = stored.events().chain(missing.events());
            violations.push(violation(Promise::AllOrNothing, Some(shown.id), what, events, Some(shown)));
        }
    }
}

fn keys_are_jobs(book: &Book<'_>, violations: &mut Vec<Violation>) {
    let mut keys: BTreeMap<(&str, &str), Vec<&SubmitCall<'_>>> = BTreeMap::new();
    for call in book.submits.iter().filter(|call| !call.submit.key.is_empty()) {
        keys.entry((&call.submit.worker_id, &call.submit.key)).or_default().push(call);
    }
    let mut shown: HashMap<(&str, &str), Vec<&FinalJob>> = HashMap::new();
    for job in book.jobs.values().filter_map(|story| story.shown).filter(|job| !job.key.is_empty()) {
        shown.entry((&job.worker_id, &job.key)).or_default().push(job);
    }
    for ((worker_id, key), calls) in keys {
        let accepted: Vec<_> = calls.iter().filter_map(|call| Some((call, call.accepted()?))).collect();
        let jobs = shown.get(&(worker_id, key)).map_or(&[][..], Vec::as_slice);
        let ids: HashSet<Uuid> =
            accepted.iter().map(|(_, (id, ..))| *id).chain(jobs.iter().map(|job| job.id)).collect();
        if ids.len() > 1 {
            let mut named = HashSet::new();
            let events = accepted.iter().filter(|(_, (id, ..))| named.insert(*id)).flat_map(|(call, _)| call.events());
            let mut named: Vec<_> = ids.iter().copied().collect();
            named.sort_unstable();
            let what = format!("key {key:?} is {} jobs: {named:?}", ids.len());
            violations.push(violation(Promise::OneJobAKey, named.last().copied(), what, events, jobs.last().copied()));
        }
        let mut made = accepted.iter().filter(|(_, (_, deduplicated, _))| !deduplicated);
        if let (Some((first, (id, ..))), Some((second, (other, ..)))) = (made.next(), made.next())
            && id == other
        {
            let what = format!("two calls are told that each of them made job {id}");
            let events = first.events().chain(second.events());
            violations.push(violation(Promise::TrueDuplicate, Some(*id), what, events, None));
        }
        // A request must not be refused for its key when no different request has used that key.
        for call in &calls {
            let Some(Kind::SubmitFailed { conflict: true, .. }) = call.answer.map(|it| &it.kind) else { continue };
            if calls.iter().all(|it| it.submit.payload == call.submit.payload) && call.of == 1 {
                let what = format!("key {key:?} is said to be another request's, and there is none");
                violations.push(violation(Promise::TrueDuplicate, None, what, call.events(), None));
            }
        }
        for (call, (id, deduplicated, answer)) in &accepted {
            let is_first = || !calls.iter().any(|it| it.invoke != call.invoke && it.invoke.at_ns < answer.at_ns);
            if *deduplicated && is_first() {
                let what = format!("job {id} is called a duplicate, and nobody had used its key");
                violations.push(violation(Promise::TrueDuplicate, Some(*id), what, call.events(), None));
            }
        }
    }
}
