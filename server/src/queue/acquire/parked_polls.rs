//! Parked polls: AcquireJobs calls that wait, because nothing was found. New jobs are handed to them directly.
//!
//! A direct hand-off stores a job and leases it to a parked poll of its worker_id in one transaction, so that the job
//! needs no acquire of its own.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use jobqueue_shared::limits;
use jobqueue_store::{Acquire, ENTRIES_PER_CLAIM, HandOff, Leased, Start, Unit};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::tasks::{TaskHash, Tasks};

/// Maximum number of polls of one worker_id that are passed over because their sessions handle none of the jobs. It
/// bounds the time under the lock; jobs that find no poll become ready as all others.
const MAX_PASSED_OVER: usize = 100;

#[derive(Default)]
pub(crate) struct ParkedPolls {
    parked: Mutex<Parked>,
}

#[derive(Default)]
struct Parked {
    by_worker_id: HashMap<String, VecDeque<ParkedPoll>>,
    next_id: u64,
}

struct ParkedPoll {
    id: u64,
    acquire: Acquire,
    tasks: Tasks,
    handed: oneshot::Sender<Vec<Leased>>,
}

/// A hand-off to store, and the channel of its poll. When it is dropped without jobs, the poll acquires by itself.
pub(crate) struct PendingHandOff {
    pub hand_off: HandOff,
    pub handed: oneshot::Sender<Vec<Leased>>,
}

/// Registration of one parked poll; dropping it removes the poll.
pub(crate) struct ParkedGuard {
    polls: Arc<ParkedPolls>,
    worker_id: String,
    id: u64,
    /// `None` once the poll has been answered.
    handed: Option<oneshot::Receiver<Vec<Leased>>>,
}

impl ParkedPolls {
    pub(crate) fn park(self: &Arc<Self>, worker_id: &str, acquire: &Acquire, tasks: &Tasks) -> ParkedGuard {
        let (sender, handed) = oneshot::channel();
        let mut parked = self.parked.lock();
        parked.next_id += 1;
        let id = parked.next_id;
        let poll = ParkedPoll { id, acquire: acquire.clone(), tasks: tasks.clone(), handed: sender };
        parked.by_worker_id.entry(worker_id.to_owned()).or_default().push_back(poll);
        ParkedGuard { polls: Arc::clone(self), worker_id: worker_id.to_owned(), id, handed: Some(handed) }
    }

    pub(crate) fn worker_ids(&self) -> Vec<String> {
        self.parked.lock().by_worker_id.keys().cloned().collect()
    }

    /// Assigns the jobs of these units that can run at once to parked polls: in the order of priority, in equal shares,
    /// and to each poll only jobs whose task its session handles. The polls are not parked any more.
    pub(crate) fn hand_off(&self, units: &[Unit]) -> Vec<PendingHandOff> {
        let mut parked = self.parked.lock();
        if parked.by_worker_id.is_empty() {
            return Vec::new();
        }
        let mut jobs: HashMap<&str, Vec<(u8, usize, usize)>> = HashMap::new();
        for (unit, it) in units.iter().enumerate() {
            for (index, job) in it.jobs.iter().enumerate() {
                if job.start == Start::Now && parked.by_worker_id.contains_key(&job.worker_id) {
                    jobs.entry(&job.worker_id).or_default().push((job.priority, unit, index));
                }
            }
        }
        let mut hand_offs = Vec::new();
        for (worker_id, mut jobs) in jobs {
            jobs.sort_unstable();
            let mut jobs: VecDeque<_> =
                jobs.into_iter().map(|(_, unit, index)| UnassignedJob::new(units, unit, index)).collect();
            let Some(waiting) = parked.by_worker_id.get_mut(worker_id) else { continue };
            let mut passed_over = VecDeque::new();
            while !jobs.is_empty() && passed_over.len() < MAX_PASSED_OVER {
                let share = jobs.len().div_ceil(waiting.len().max(1));
                let Some(poll) = waiting.pop_front() else { break };
                let most = share.min(poll.acquire.max_jobs as usize).min(ENTRIES_PER_CLAIM);
                let offered = take_for(&poll.tasks, &mut jobs, most);
                if offered.is_empty() {
                    passed_over.push_back(poll);
                    continue;
                }
                let ParkedPoll { acquire: Acquire { session_id, acquire_no, .. }, handed, .. } = poll;
                let hand_off = HandOff { session_id, worker_id: worker_id.to_owned(), acquire_no, jobs: offered };
                hand_offs.push(PendingHandOff { hand_off, handed });
            }
            passed_over.append(waiting);
            *waiting = passed_over;
            if waiting.is_empty() {
                parked.by_worker_id.remove(worker_id);
            }
        }
        hand_offs
    }

    /// Removes a parked poll; false if a hand-off has taken it already.
    fn remove(&self, worker_id: &str, id: u64) -> bool {
        let mut parked = self.parked.lock();
        let Some(waiting) = parked.by_worker_id.get_mut(worker_id) else { return false };
        let Some(at) = waiting.iter().position(|poll| poll.id == id) else { return false };
        waiting.remove(at);
        if waiting.is_empty() {
            parked.by_worker_id.remove(worker_id);
        }
        true
    }
}

/// A new job that has no poll yet.
struct UnassignedJob {
    unit: usize,
    index: usize,
    task: TaskHash,
    bytes: usize,
}

impl UnassignedJob {
    fn new(units: &[Unit], unit: usize, index: usize) -> Self {
        let job = &units[unit].jobs[index];
        Self { unit, index, task: TaskHash::of(&job.task), bytes: job.payload.len() }
    }
}

/// Takes jobs that a session with these tasks handles, from the front: at most `most`, and as many as fit into a reply,
/// but at least one. The other jobs stay, in order.
fn take_for(tasks: &Tasks, jobs: &mut VecDeque<UnassignedJob>, most: usize) -> Vec<(usize, usize)> {
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

impl ParkedGuard {
    /// Completes when a hand-off was stored: with its jobs, or with none if the database did not lease them to this
    /// session.
    pub(crate) async fn handed(&mut self) -> Vec<Leased> {
        let Some(handed) = &mut self.handed else { return Vec::new() };
        let jobs = handed.await.unwrap_or_default();
        self.handed = None;
        jobs
    }

    /// Stops waiting. If a hand-off has taken the poll meanwhile, waits for its jobs.
    pub(crate) async fn leave(mut self) -> Vec<Leased> {
        if self.handed.is_some() && self.polls.remove(&self.worker_id, self.id) {
            self.handed = None;
        }
        self.handed().await
    }
}

impl Drop for ParkedGuard {
    fn drop(&mut self) {
        if self.handed.is_some() {
            self.polls.remove(&self.worker_id, self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use uuid::Uuid;

    use super::*;
    use jobqueue_store::NewJob;

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
            origin: None,
        }
    }

    fn assigned(hand_offs: &[PendingHandOff]) -> Vec<(u128, Vec<(usize, usize)>)> {
        hand_offs.iter().map(|it| (it.hand_off.session_id.as_u128(), it.hand_off.jobs.clone())).collect()
    }

    #[test]
    fn jobs_are_spread_over_who_waits_for_them_by_priority() {
        let waiting = Arc::new(ParkedPolls::default());
        let _guards = [
            waiting.park("w", &call(1, 10), &Tasks::default()),
            waiting.park("w", &call(2, 1), &Tasks::default()),
            waiting.park("v", &call(3, 10), &Tasks::default()),
        ];
        let units = [
            Unit { jobs: vec![job("w", 5), job("nobody", 0)] },
            Unit { jobs: vec![job("w", 0), job("w", 9), job("w", 9)] },
        ];
        let hand_offs = waiting.hand_off(&units);
        assert_eq!(assigned(&hand_offs), [(1, vec![(1, 0), (0, 0)]), (2, vec![(1, 1)])]);
        assert!(hand_offs.iter().all(|it| it.hand_off.acquire_no == 7 && it.hand_off.worker_id == "w"));
        assert!(waiting.hand_off(&units).is_empty(), "a poll is offered jobs once");
        assert_eq!(waiting.worker_ids(), ["v"]);
    }

    #[test]
    fn a_job_is_offered_only_to_who_handles_its_task() {
        let waiting = Arc::new(ParkedPolls::default());
        let of_task = |task: &str| NewJob { task: task.into(), ..job("w", 5) };
        let tasks = |listed: &[&str]| Tasks::of(&listed.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>());
        let _guards = [
            waiting.park("w", &call(1, 10), &tasks(&["a"])),
            waiting.park("w", &call(2, 10), &tasks(&["b", "c"])),
            waiting.park("w", &call(3, 10), &tasks(&["a"])),
        ];
        let unit = Unit { jobs: ["b", "d", "c", "b"].map(of_task).to_vec() };
        assert_eq!(
            assigned(&waiting.hand_off(&[unit])),
            [(2, vec![(0, 0), (0, 2)])],
            "its share of four, and nothing else"
        );
        let unit = Unit { jobs: ["b", "a", "a"].map(of_task).to_vec() };
        assert_eq!(
            assigned(&waiting.hand_off(&[unit])),
            [(1, vec![(0, 1), (0, 2)])],
            "in the order in which they wait"
        );
        let _guards: Vec<_> = (4..4 + 2 * MAX_PASSED_OVER as u128)
            .map(|session| waiting.park("w", &call(session, 1), &tasks(&["a"])))
            .collect();
        assert!(waiting.hand_off(&[Unit { jobs: vec![of_task("b")] }]).is_empty());
        let hand_offs = waiting.hand_off(&[Unit { jobs: vec![of_task("a"); 1_000] }]);
        assert_eq!(hand_offs.len(), 2 * MAX_PASSED_OVER + 1, "who was passed over still waits");
        assert_eq!(hand_offs[0].hand_off.session_id, Uuid::from_u128(3));
    }

    #[test]
    fn what_cannot_run_at_once_is_not_offered() {
        let waiting = Arc::new(ParkedPolls::default());
        let _guard = waiting.park("w", &call(1, 10), &Tasks::default());
        let starts = [Start::After { delay_ms: 1 }, Start::At { run_at_ms: 0 }, Start::Now];
        let jobs = starts.map(|start| NewJob { start, ..job("w", 5) });
        assert_eq!(assigned(&waiting.hand_off(&[Unit { jobs: jobs.to_vec() }])), [(1, vec![(0, 2)])]);
    }

    #[test]
    fn an_offer_fits_a_claim_and_a_reply() {
        let waiting = Arc::new(ParkedPolls::default());
        let _guards = [1, 2].map(|session| waiting.park("w", &call(session, 1_000), &Tasks::default()));
        let hand_offs = waiting.hand_off(&[Unit { jobs: vec![job("w", 5); 500] }]);
        assert_eq!(hand_offs.iter().map(|it| it.hand_off.jobs.len()).collect::<Vec<_>>(), [ENTRIES_PER_CLAIM; 2]);
        let large = NewJob { payload: "x".repeat(limits::REPLY_BYTES), ..job("w", 5) };
        let _guards = [1, 2].map(|session| waiting.park("w", &call(session, 1_000), &Tasks::default()));
        let hand_offs = waiting.hand_off(&[Unit { jobs: vec![large; 4] }]);
        assert_eq!(hand_offs.iter().map(|it| it.hand_off.jobs.len()).collect::<Vec<_>>(), [1, 1]);
    }

    #[test]
    fn who_leaves_before_an_offer_gets_none() {
        let waiting = Arc::new(ParkedPolls::default());
        let guard = waiting.park("w", &call(1, 10), &Tasks::default());
        assert!(guard.leave().now_or_never().unwrap().is_empty());
        drop(waiting.park("w", &call(1, 10), &Tasks::default()));
        assert!(waiting.parked.lock().by_worker_id.is_empty());
    }

    #[tokio::test]
    async fn who_leaves_during_an_offer_waits_for_what_becomes_of_it() {
        let waiting = Arc::new(ParkedPolls::default());
        let guard = waiting.park("w", &call(1, 10), &Tasks::default());
        let mut hand_offs = waiting.hand_off(&[Unit { jobs: vec![job("w", 5)] }]);
        let mut leaving = Box::pin(guard.leave());
        assert!(futures::poll!(&mut leaving).is_pending());
        drop(hand_offs.pop());
        assert!(leaving.await.is_empty());
    }
}
