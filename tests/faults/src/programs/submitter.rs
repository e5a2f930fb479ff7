//! Program that submits jobs of every kind until it is told to stop (SIGTERM).

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use jobqueue_shared::proto::v1::{
    CancelJobRequest, Job, RetryJobRequest, SubmitJobRequest, SubmitJobResponse, SubmitJobsRequest,
    job_service_client::JobServiceClient,
};
use parking_lot::Mutex;
use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};
use uuid::Uuid;

use super::{
    Common, calls, channel, note, say_on_stderr,
    scribe::id,
    told_to_stop,
    work::{self, NewJob},
};
use crate::history::{self, Kind, Move, Recorder};

/// Number of tasks that submit at once, each one job or batch after the other.
const LANES: u64 = 3;
const AGAIN: Duration = Duration::from_millis(200);
/// Time for which unanswered submits are repeated once the program is told to stop.
const FLUSHING: Duration = Duration::from_secs(15);
/// Maximum number of recent jobs that a later order (cancel, retry) can choose from.
const REMEMBERED: usize = 64;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub common: Common,
    /// Mean pause between two calls of a lane, in milliseconds
    #[arg(long, default_value_t = 250)]
    pub pause_ms: u64,
}

/// Runs until SIGTERM, and then until every submit with a key has been acknowledged or given up.
pub async fn run(args: Args) -> anyhow::Result<()> {
    run_until(args, async { drop(told_to_stop().await) }).await
}

/// Runs until `stop` completes.
pub async fn run_until(args: Args, stop: impl Future<Output = ()> + Send) -> anyhow::Result<()> {
    say_on_stderr();
    let servers: Result<Vec<_>, _> =
        args.common.servers.iter().map(|server| channel(server).map(JobServiceClient::new)).collect();
    let shared = Arc::new(Shared {
        recorder: args.common.recorder()?,
        servers: servers?,
        server: AtomicUsize::new(0),
        calls: AtomicU64::new(0),
        stopping: CancellationToken::new(),
        common: args.common,
        pause_ms: args.pause_ms,
    });
    let mut lanes = JoinSet::new();
    for number in 0..LANES {
        let random = shared.common.random(number);
        let recent = Mutex::default();
        let lane = Lane { shared: Arc::clone(&shared), number, made: AtomicU64::new(0), recent };
        lanes.spawn(async move { lane.submit_all(random).await });
    }
    stop.await;
    shared.stopping.cancel();
    while let Some(ended) = lanes.join_next().await {
        ended?;
    }
    Ok(())
}

struct Shared {
    common: Common,
    pause_ms: u64,
    recorder: Recorder,
    servers: Vec<JobServiceClient<Channel>>,
    /// Index of the server for the next call: the one that answered last.
    server: AtomicUsize,
    calls: AtomicU64,
    stopping: CancellationToken,
}

struct Lane {
    shared: Arc<Shared>,
    number: u64,
    made: AtomicU64,
    recent: Mutex<VecDeque<Uuid>>,
}

/// Known effect of a call: done, certainly not done, or unknown.
enum Heard {
    Yes,
    No,
    Nothing,
}

impl Lane {
    async fn submit_all(&self, mut random: StdRng) {
        while !self.shared.stopping.is_cancelled() {
            match random.random_range(0..100) {
                0..70 => self.submit_one(&mut random).await,
                70..92 => self.submit_batch(&mut random).await,
                _ => self.order(&mut random).await,
            }
            let pause = Duration::from_millis(random.random_range(0..=2 * self.shared.pause_ms));
            let _ = timeout(pause, self.shared.stopping.cancelled()).await;
        }
    }

    fn nonce(&self) -> String {
        let made = self.made.fetch_add(1, Ordering::Relaxed);
        format!("{}/{}/{made}", self.shared.common.name, self.number)
    }

    fn make(&self, random: &mut StdRng) -> NewJob {
        let nonce = self.nonce();
        let key = if random.random_bool(0.5) { format!("key of {nonce}") } else { String::new() };
        work::new_job(random, &self.shared.common.worker_id, nonce, key)
    }

    async fn submit_one(&self, random: &mut StdRng) {
        let job = self.make(random);
        let jobs = std::slice::from_ref(&job);
        if random.random_bool(0.04) {
            // A cancel right after the submit, when the job has hardly begun.
            self.send(jobs).await;
            let newest = self.recent.lock().back().copied();
            if let Some(job) = newest {
                self.cancel(job, random).await;
            }
            return;
        }
        if job.submit.key.is_empty() {
            self.send(jobs).await;
            return;
        }
        match random.random_range(0..100) {
            // Two programs submit one request at once, without knowing of each other.
            0..8 => drop(tokio::join!(self.insist(jobs), self.insist(jobs))),
            8..14 => {
                self.insist(jobs).await;
                self.insist(jobs).await;
            }
            14..20 => {
                let other = work::contradiction(&job, self.nonce());
                let others = std::slice::from_ref(&other);
                tokio::join!(self.insist(jobs), self.insist(others));
            }
            20..25 => {
                self.insist(jobs).await;
                self.insist(&[work::contradiction(&job, self.nonce())]).await;
            }
            _ => self.insist(jobs).await,
        }
    }

    async fn submit_batch(&self, random: &mut StdRng) {
        let jobs: Vec<_> = (0..random.random_range(2..10)).map(|_| self.make(random)).collect();
        // Sending a batch again is safe only when each of its jobs has a key.
        if jobs.iter().all(|job| !job.submit.key.is_empty()) {
            self.insist(&jobs).await;
        } else {
            self.send(&jobs).await;
        }
    }

    /// Repeats a submit until its result is known.
    async fn insist(&self, jobs: &[NewJob]) {
        let mut flushing = None;
        while let Heard::Nothing = self.send(jobs).await {
            if self.shared.stopping.is_cancelled() {
                let until = *flushing.get_or_insert_with(|| Instant::now() + FLUSHING);
                if Instant::now() > until {
                    return;
                }
            }
            sleep(AGAIN).await;
        }
    }

    async fn send(&self, jobs: &[NewJob]) -> Heard {
        let call = self.shared.calls.fetch_add(1, Ordering::Relaxed);
        let of = jobs.len() as u32;
        let invoke = |(place, job): (u32, &NewJob)| Kind::SubmitInvoke { call, place, of, submit: job.submit.clone() };
        note(&self.shared.recorder, (0..).zip(jobs).map(invoke));
        let requests: Vec<SubmitJobRequest> = jobs.iter().map(|job| job.request.clone()).collect();
        let (server, mut api) = self.shared.api();
        let answer: Result<Vec<SubmitJobResponse>, Status> = if let [request] = &requests[..] {
            calls::within(api.submit_job(calls::limited(request.clone()))).await.map(|it| vec![it])
        } else {
            calls::within(api.submit_jobs(calls::limited(SubmitJobsRequest { jobs: requests }))).await.map(|it| it.jobs)
        };
        match answer {
            Ok(replies) if replies.len() == jobs.len() => {
                let ok = |(place, reply): (u32, &SubmitJobResponse)| {
                    let (job, deduplicated) = (id(&reply.job_id), reply.deduplicated);
                    Kind::SubmitOk { call, place, job, deduplicated }
                };
                note(&self.shared.recorder, (0..).zip(&replies).map(ok));
                for reply in &replies {
                    self.remember(id(&reply.job_id));
                }
                Heard::Yes
            }
            Ok(replies) => {
                let error = format!("{} answers for {of} jobs", replies.len());
                let unknown = |place| Kind::SubmitUnknown { call, place, error: error.clone() };
                note(&self.shared.recorder, (0..of).map(unknown));
                Heard::Nothing
            }
            Err(status) => {
                self.shared.other_than(server);
                let error = calls::text(&status);
                if calls::is_refusal(&status) {
                    let conflict = status.code() == Code::AlreadyExists;
                    let failed = |place| Kind::SubmitFailed { call, place, conflict, error: error.clone() };
                    note(&self.shared.recorder, (0..of).map(failed));
                    // A call that found no room or no connection may be sent again.
                    let final_word = status.code() != Code::ResourceExhausted && status.code() != Code::Unavailable;
                    return if final_word { Heard::No } else { Heard::Nothing };
                }
                let unknown = |place| Kind::SubmitUnknown { call, place, error: error.clone() };
                note(&self.shared.recorder, (0..of).map(unknown));
                Heard::Nothing
            }
        }
    }

    fn remember(&self, job: Uuid) {
        let mut recent = self.recent.lock();
        recent.push_back(job);
        if recent.len() > REMEMBERED {
            recent.pop_front();
        }
    }

    /// Gives an order as a person would: cancels a job, and retries it half of the time; or retries a dead letter.
    async fn order(&self, random: &mut StdRng) {
        let recent: Vec<_> = self.recent.lock().iter().copied().collect();
        let Some(&job) = recent.choose(random) else { return };
        if random.random_bool(0.5) {
            self.cancel(job, random).await;
        } else {
            self.send_order(job, Move::Retry).await;
        }
    }

    async fn cancel(&self, job: Uuid, random: &mut StdRng) {
        self.send_order(job, Move::Cancel).await;
        if random.random_bool(0.5) {
            self.send_order(job, Move::Retry).await;
        }
    }

    async fn send_order(&self, job: Uuid, order: Move) {
        let call = self.shared.calls.fetch_add(1, Ordering::Relaxed);
        note(&self.shared.recorder, [Kind::MoveInvoke { call, job, order }]);
        let (server, mut api) = self.shared.api();
        let job_id = job.to_string();
        let moved: Result<Option<Job>, Status> = match order {
            Move::Cancel => {
                let request = CancelJobRequest { job_id, reason: "a person's wish".to_owned() };
                calls::within(api.cancel_job(calls::limited(request))).await.map(|it| it.job)
            }
            Move::Retry => {
                calls::within(api.retry_job(calls::limited(RetryJobRequest { job_id }))).await.map(|it| it.job)
            }
        };
        let kind = match moved {
            Ok(moved) => match history::Status::try_from(moved.unwrap_or_default().status()) {
                Ok(status) => Kind::MoveOk { call, job, order, status },
                Err(error) => Kind::MoveUnknown { call, job, order, error: error.to_string() },
            },
            Err(status) => {
                let error = calls::text(&status);
                if calls::is_refusal(&status) {
                    Kind::MoveFailed { call, job, order, error }
                } else {
                    self.shared.other_than(server);
                    Kind::MoveUnknown { call, job, order, error }
                }
            }
        };
        note(&self.shared.recorder, [kind]);
    }
}

impl Shared {
    fn api(&self) -> (usize, JobServiceClient<Channel>) {
        let server = self.server.load(Ordering::Relaxed) % self.servers.len();
        (server, self.servers[server].clone())
    }

    /// Selects the next server for the next call, unless another lane has done so already.
    fn other_than(&self, server: usize) {
        let next = (server + 1) % self.servers.len();
        let _ = self.server.compare_exchange(server, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}
