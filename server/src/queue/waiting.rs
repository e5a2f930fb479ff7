//! Calls that wait for jobs. New jobs of their worker_id are offered to them while they are stored, so that a job for
//! which somebody waits needs no transaction of its own to be handed over.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jobqueue_shared::limits;
use tokio::sync::oneshot;

use super::tasks::{TaskHash, Tasks};
use crate::store::{Acquire, Leased, Offer, PLACES_PER_CLAIM, Start, Unit};

/// Calls that handle none of a group's jobs are passed over, so many of one worker_id: more would hold up all others. The
/// jobs are then looked for, as all that are offered to nobody.
const PASSED_OVER: usize = 100;

#[derive(Default)]
pub(super) struct Waiting {
    calls: Mutex<Calls>,
}

#[derive(Default)]
struct Calls {
    by_worker_id: HashMap<String, VecDeque<Call>>,
    next_id: u64,
}

struct Call {
    id: u64,
    acquire: Acquire,
    tasks: Tasks,
    handed: oneshot::Sender<Vec<Leased>>,
}

/// An offer, and where its jobs go. Dropped, the call looks for itself.
pub(super) struct Engaged {
    pub offer: Offer,
    pub handed: oneshot::Sender<Vec<Leased>>,
}

/// A call's place among those that wait.
pub(super) struct Place {
    waiting: Arc<Waiting>,
    worker_id: String,
    id: u64,
    /// `None`: it has been answered.
    handed: Option<oneshot::Receiver<Vec<Leased>>>,
}

impl Waiting {
    pub(super) fn wait(self: &Arc<Self>, worker_id: &str, acquire: &Acquire, tasks: &Tasks) -> Place {
        let (sender, handed) = oneshot::channel();
        let mut calls = self.calls();
        calls.next_id += 1;
        let id = calls.next_id;
        let call = Call { id, acquire: acquire.clone(), tasks: tasks.clone(), handed: sender };
        calls.by_worker_id.entry(worker_id.to_owned()).or_default().push_back(call);
        Place { waiting: Arc::clone(self), worker_id: worker_id.to_owned(), id, handed: Some(handed) }
    }

    pub(super) fn worker_ids(&self) -> Vec<String> {
        self.calls().by_worker_id.keys().cloned().collect()
    }

    /// Offers the jobs of these units that can run at once: by priority, spread over the calls that wait, to each what its
    /// session handles.
    pub(super) fn engage(&self, units: &[Unit]) -> Vec<Engaged> {
        let mut calls = self.calls();
        if calls.by_worker_id.is_empty() {
            return Vec::new();
        }
        let mut jobs: HashMap<&str, Vec<(u8, usize, usize)>> = HashMap::new();
        for (unit, it) in units.iter().enumerate() {
            for (index, job) in it.jobs.iter().enumerate() {
                if job.start == Start::Now && calls.by_worker_id.contains_key(&job.worker_id) {
                    jobs.entry(&job.worker_id).or_default().push((job.priority, unit, index));
                }
            }
        }
        let mut engaged = Vec::new();
        for (worker_id, mut jobs) in jobs {
            jobs.sort_unstable();
            let mut jobs: VecDeque<_> =
                jobs.into_iter().map(|(_, unit, index)| Free::new(units, unit, index)).collect();
            let Some(waiting) = calls.by_worker_id.get_mut(worker_id) else { continue };
            let mut passed_over = VecDeque::new();
            while !jobs.is_empty() && passed_over.len() < PASSED_OVER {
                let share = jobs.len().div_ceil(waiting.len().max(1));
                let Some(call) = waiting.pop_front() else { break };
                let most = share.min(call.acquire.max_jobs as usize).min(PLACES_PER_CLAIM);
                let offered = take_for(&call.tasks, &mut jobs, most);
                if offered.is_empty() {
                    passed_over.push_back(call);
                    continue;
                }
                let Call { acquire: Acquire { session_id, acquire_no, .. }, handed, .. } = call;
                let offer = Offer { session_id, worker_id: worker_id.to_owned(), acquire_no, jobs: offered };
                engaged.push(Engaged { offer, handed });
            }
            passed_over.append(waiting);
            *waiting = passed_over;
            if waiting.is_empty() {
                calls.by_worker_id.remove(worker_id);
            }
        }
        engaged
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False: it is not there; it has been offered jobs.
    fn remove(&self, worker_id: &str, id: u64) -> bool {
        let mut calls = self.calls();
        let Some(waiting) = calls.by_worker_id.get_mut(worker_id) else { return false };
        let Some(at) = waiting.iter().position(|call| call.id == id) else { return false };
        waiting.remove(at);
        if waiting.is_empty() {
            calls.by_worker_id.remove(worker_id);
        }
        true
    }
}

/// A job that is offered to nobody yet.
struct Free {
    unit: usize,
    index: usize,
    task: TaskHash,
    bytes: usize,
}

impl Free {
    fn new(units: &[Unit], unit: usize, index: usize) -> Self {
        let job = &units[unit].jobs[index];
        Self { unit, index, task: TaskHash::of(&job.task), bytes: job.payload.len() }
    }
}

/// The first of these jobs that a session with these tasks handles: so many, and what fits into an answer, but at least
/// one. The others stay, in order.
fn take_for(tasks: &Tasks, jobs: &mut VecDeque<Free>, most: usize) -> Vec<(usize, usize)> {
    let (mut offered, mut others, mut bytes) = (Vec::with_capacity(most), VecDeque::new(), 0);
    while let Some(job) = jobs.pop_front() {
        if !tasks.handles(job.task) {
            others.push_back(job);
            continue;
        }
        bytes += job.bytes;
        if !offered.is_empty() && (offered.len() >= most || bytes > limits::REPLY_BYTES) {
            jobs.push_front(job);
            break;
        }
        offered.push((job.unit, job.index));
    }
    if !others.is_empty() {
        others.append(jobs);
        *jobs = others;
    }
    offered
}

impl Place {
    /// Completes when jobs were offered: with those, or with none if the offer was not taken.
    pub(super) async fn handed(&mut self) -> Vec<Leased> {
        let Some(handed) = &mut self.handed else { return Vec::new() };
        let jobs = handed.await.unwrap_or_default();
        self.handed = None;
        jobs
    }

    /// Waits no longer; jobs that it has been offered meanwhile are still its own.
    pub(super) async fn leave(mut self) -> Vec<Leased> {
        if self.handed.is_some() && self.waiting.remove(&self.worker_id, self.id) {
            self.handed = None;
        }
        self.handed().await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.handed.is_some() {
            self.waiting.remove(&self.worker_id, self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use uuid::Uuid;

    use super::*;
    use crate::store::NewJob;

    fn call(session: u128, max_jobs: u32) -> Acquire {
        Acquire { session_id: Uuid::from_u128(session), worker_id: Some("w".into()), acquire_no: 7, max_jobs }
    }

    fn job(worker_id: &str, priority: u8) -> NewJob {
        NewJob {
            worker_id: worker_id.into(),
            task: String::new(),
            priority,
            start: Start::Now,
            payload: "{}".into(),
            max_retries: 3,
            retry: None,
            attempt_timeout_ms: None,
            key: None,
        }
    }

    fn offers(engaged: &[Engaged]) -> Vec<(u128, Vec<(usize, usize)>)> {
        engaged.iter().map(|it| (it.offer.session_id.as_u128(), it.offer.jobs.clone())).collect()
    }

    #[test]
    fn jobs_are_spread_over_who_waits_for_them_by_priority() {
        let waiting = Arc::new(Waiting::default());
        let _places = [
            waiting.wait("w", &call(1, 10), &Tasks::default()),
            waiting.wait("w", &call(2, 1), &Tasks::default()),
            waiting.wait("v", &call(3, 10), &Tasks::default()),
        ];
        let units = [
            Unit { jobs: vec![job("w", 5), job("nobody", 0)] },
            Unit { jobs: vec![job("w", 0), job("w", 9), job("w", 9)] },
        ];
        let engaged = waiting.engage(&units);
        assert_eq!(offers(&engaged), [(1, vec![(1, 0), (0, 0)]), (2, vec![(1, 1)])]);
        assert!(engaged.iter().all(|it| it.offer.acquire_no == 7 && it.offer.worker_id == "w"));
        assert!(waiting.engage(&units).is_empty(), "a call is offered jobs once");
        assert_eq!(waiting.worker_ids(), ["v"]);
    }

    #[test]
    fn a_job_is_offered_only_to_who_handles_its_task() {
        let waiting = Arc::new(Waiting::default());
        let of_task = |task: &str| NewJob { task: task.into(), ..job("w", 5) };
        let tasks = |listed: &[&str]| Tasks::of(&listed.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>());
        let _places = [
            waiting.wait("w", &call(1, 10), &tasks(&["a"])),
            waiting.wait("w", &call(2, 10), &tasks(&["b", "c"])),
            waiting.wait("w", &call(3, 10), &tasks(&["a"])),
        ];
        let unit = Unit { jobs: ["b", "d", "c", "b"].map(of_task).to_vec() };
        assert_eq!(
            offers(&waiting.engage(&[unit])),
            [(2, vec![(0, 0), (0, 2)])],
            "its share of four, and nothing else"
        );
        let unit = Unit { jobs: ["b", "a", "a"].map(of_task).to_vec() };
        assert_eq!(offers(&waiting.engage(&[unit])), [(1, vec![(0, 1), (0, 2)])], "in the order in which they wait");
        let _places: Vec<_> = (4..4 + 2 * PASSED_OVER as u128)
            .map(|session| waiting.wait("w", &call(session, 1), &tasks(&["a"])))
            .collect();
        assert!(waiting.engage(&[Unit { jobs: vec![of_task("b")] }]).is_empty());
        let engaged = waiting.engage(&[Unit { jobs: vec![of_task("a"); 1_000] }]);
        assert_eq!(engaged.len(), 2 * PASSED_OVER + 1, "who was passed over still waits");
        assert_eq!(engaged[0].offer.session_id, Uuid::from_u128(3));
    }

    #[test]
    fn what_cannot_run_at_once_is_not_offered() {
        let waiting = Arc::new(Waiting::default());
        let _place = waiting.wait("w", &call(1, 10), &Tasks::default());
        let starts = [Start::After { delay_ms: 1 }, Start::At { run_at_ms: 0 }, Start::Now];
        let jobs = starts.map(|start| NewJob { start, ..job("w", 5) });
        assert_eq!(offers(&waiting.engage(&[Unit { jobs: jobs.to_vec() }])), [(1, vec![(0, 2)])]);
    }

    #[test]
    fn an_offer_fits_a_claim_and_a_reply() {
        let waiting = Arc::new(Waiting::default());
        let _places = [1, 2].map(|session| waiting.wait("w", &call(session, 1_000), &Tasks::default()));
        let engaged = waiting.engage(&[Unit { jobs: vec![job("w", 5); 500] }]);
        assert_eq!(engaged.iter().map(|it| it.offer.jobs.len()).collect::<Vec<_>>(), [PLACES_PER_CLAIM; 2]);
        let large = NewJob { payload: "x".repeat(limits::REPLY_BYTES), ..job("w", 5) };
        let _places = [1, 2].map(|session| waiting.wait("w", &call(session, 1_000), &Tasks::default()));
        let engaged = waiting.engage(&[Unit { jobs: vec![large; 4] }]);
        assert_eq!(engaged.iter().map(|it| it.offer.jobs.len()).collect::<Vec<_>>(), [1, 1]);
    }

    #[test]
    fn who_leaves_before_an_offer_gets_none() {
        let waiting = Arc::new(Waiting::default());
        let place = waiting.wait("w", &call(1, 10), &Tasks::default());
        assert!(place.leave().now_or_never().unwrap().is_empty());
        drop(waiting.wait("w", &call(1, 10), &Tasks::default()));
        assert!(waiting.calls().by_worker_id.is_empty());
    }

    #[tokio::test]
    async fn who_leaves_during_an_offer_waits_for_what_becomes_of_it() {
        let waiting = Arc::new(Waiting::default());
        let place = waiting.wait("w", &call(1, 10), &Tasks::default());
        let mut engaged = waiting.engage(&[Unit { jobs: vec![job("w", 5)] }]);
        let mut leaving = Box::pin(place.leave());
        assert!(futures::poll!(&mut leaving).is_pending());
        drop(engaged.pop());
        assert!(leaving.await.is_empty());
    }
}
