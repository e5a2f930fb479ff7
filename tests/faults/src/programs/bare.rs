//! Worker without the library. It is mostly honest; at times it sends what no worker should: an outcome twice and then
//! a different one, an outcome of a lease that it gave back or that ran out while it sent no heartbeats, or an outcome
//! in the name of another session of its own. All of these have to be refused, which the checker verifies.

use std::{pin::pin, time::Duration};

use anyhow::Result;
use futures::future::join_all;
use jobqueue_shared::proto::v1::{
    AcquireJobsRequest, EndSessionRequest, HeartbeatRequest, LeasedJob, RegisterSessionRequest, SettleJobsRequest,
    Settlement,
    settlement::{Complete, Fail, Outcome, Release, Snooze},
    worker_service_client::WorkerServiceClient,
};
use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};
use tokio::time::{Instant, sleep};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::transport::Channel;

use super::{
    calls,
    scribe::{Scribe, id},
    work::{self, End, Work},
    worker::Args,
};

const WAIT: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(150);

/// Behaviour of the worker for one batch of jobs.
#[derive(Clone, Copy)]
enum Manner {
    Honest,
    /// Completes, completes again, then fails.
    Twice,
    /// Ends its session, then completes.
    AfterGoodbye,
    /// Sends no heartbeat until the lease is over, then completes.
    Silent,
    /// Completes in the name of another session first.
    Foreign,
    /// Releases the jobs.
    GivesBack,
}

const MANNERS: [(Manner, u32); 6] = [
    (Manner::Honest, 60),
    (Manner::Twice, 12),
    (Manner::AfterGoodbye, 6),
    (Manner::Silent, 3),
    (Manner::Foreign, 12),
    (Manner::GivesBack, 7),
];

pub(super) async fn run(args: &Args, server: Channel, scribe: Scribe, stop: impl Future<Output = ()>) -> Result<()> {
    let stopping = CancellationToken::new();
    let bare = Bare {
        args: args.clone(),
        api: WorkerServiceClient::new(server).max_decoding_message_size(16 * 1024 * 1024),
        scribe,
        stopping: stopping.clone(),
    };
    let mut working = pin!(bare.work(args.common.random(0)));
    tokio::select! {
        () = &mut working => return Ok(()),
        () = stop => stopping.cancel(),
    }
    working.await;
    Ok(())
}

#[derive(Clone)]
struct Bare {
    args: Args,
    api: WorkerServiceClient<Channel>,
    scribe: Scribe,
    stopping: CancellationToken,
}

/// Session with its heartbeat task.
struct Session {
    id: String,
    /// Cancelled when the server has said that the session is over, or when this worker gives it up.
    over: CancellationToken,
    beating: AbortOnDropHandle<()>,
}

impl Bare {
    async fn work(&self, mut random: StdRng) {
        while let Some(session) = self.register().await {
            self.serve(&session, &mut random).await;
            if self.stopping.is_cancelled() {
                self.goodbye(&session).await;
                return;
            }
        }
    }

    async fn serve(&self, session: &Session, random: &mut StdRng) {
        for acquire_no in 1.. {
            let Some(jobs) = self.acquire(session, acquire_no).await else { return };
            if jobs.is_empty() {
                continue;
            }
            let manner = MANNERS.choose_weighted(random, |(_, weight)| *weight).map_or(Manner::Honest, |it| it.0);
            self.treat(session, jobs, manner, random).await;
            if session.over.is_cancelled() {
                return;
            }
        }
    }

    async fn treat(&self, session: &Session, jobs: Vec<LeasedJob>, manner: Manner, random: &mut StdRng) {
        let complete = |job: &LeasedJob| settlement(job, Outcome::Complete(Complete::default()));
        match manner {
            Manner::Honest => {
                join_all(jobs.iter().map(|job| self.do_honestly(session, job))).await;
            }
            Manner::Twice => {
                for job in &jobs {
                    self.start(job);
                }
                let all: Vec<_> = jobs.iter().map(complete).collect();
                self.settle(session, &session.id, all.clone()).await;
                self.settle(session, &session.id, all).await;
                let fail = |job| settlement(job, Outcome::Fail(Fail { error: "after all".into(), ..Fail::default() }));
                self.settle(session, &session.id, jobs.iter().map(fail).collect()).await;
            }
            Manner::AfterGoodbye => {
                self.goodbye(session).await;
                self.settle(session, &session.id, jobs.iter().map(complete).collect()).await;
            }
            Manner::Silent => {
                self.scribe.silent(&session.id);
                session.beating.abort();
                // Another worker gets the jobs when the lease is over; the outcome is sent shortly after that.
                let lease = Duration::from_millis(self.args.lease_ms);
                sleep(lease + Duration::from_millis(random.random_range(500..3_000))).await;
                self.settle(session, &session.id, jobs.iter().map(complete).collect()).await;
                session.over.cancel();
            }
            Manner::Foreign => {
                if let Some(other) = self.register().await {
                    self.settle(session, &other.id, jobs.iter().map(complete).collect()).await;
                    self.goodbye(&other).await;
                }
                join_all(jobs.iter().map(|job| self.do_honestly(session, job))).await;
            }
            Manner::GivesBack => {
                let release = |job| settlement(job, Outcome::Release(Release { no_handler: false }));
                self.settle(session, &session.id, jobs.iter().map(release).collect()).await;
            }
        }
    }

    fn start(&self, leased: &LeasedJob) {
        if let Some(job) = &leased.job {
            self.scribe.started(id(&job.id), job.run_no);
        }
    }

    async fn do_honestly(&self, session: &Session, leased: &LeasedJob) {
        let Some(job) = &leased.job else { return };
        self.start(leased);
        let Ok(work) = serde_json::from_str::<Work>(&job.payload_json) else { return };
        sleep(Duration::from_millis(work.sleep_ms)).await;
        let end = work.end(job.attempt_count, job.run_no);
        self.scribe.finished(id(&job.id), job.run_no, &format!("{end:?}"));
        let delay = |ms: u64| work::duration(ms.cast_signed());
        let fail =
            |retry_after, permanent| Outcome::Fail(Fail { error: "it was to fail".into(), permanent, retry_after });
        let outcome = match end {
            End::Works => Outcome::Complete(Complete { result_json: "{}".into(), note: String::new() }),
            End::Fails { delay_ms } => fail(delay_ms.map(delay), false),
            End::Panics => fail(None, false),
            End::FailsForGood => fail(None, true),
            End::Snoozes { delay_ms } => {
                Outcome::Snooze(Snooze { delay: Some(delay(delay_ms)), reason: "it was to snooze".into() })
            }
        };
        self.settle(session, &session.id, vec![settlement(leased, outcome)]).await;
    }

    /// Registers a session, repeating the call until it is answered. `None` when the worker is told to stop before.
    async fn register(&self) -> Option<Session> {
        let request = RegisterSessionRequest {
            worker_id: self.args.common.worker_id.clone(),
            host: "bare".to_owned(),
            pid: std::process::id().cast_signed(),
            version: self.args.common.name.clone(),
            tasks: vec!["*".to_owned()],
            slots: self.args.slots.cast_signed(),
            lease_time: Some(work::duration(self.args.lease_ms.cast_signed())),
            predecessors: Vec::new(),
        };
        loop {
            let mut api = self.api.clone();
            let answer = tokio::select! {
                () = self.stopping.cancelled() => return None,
                answer = calls::within(api.register_session(calls::limited(request.clone()))) => answer,
            };
            match answer {
                Ok(reply) => {
                    self.scribe.registered(&request, &reply);
                    let over = CancellationToken::new();
                    let beating = tokio::spawn(self.clone().beat(reply.session_id.clone(), over.clone()));
                    return Some(Session { id: reply.session_id, over, beating: AbortOnDropHandle::new(beating) });
                }
                Err(_) => sleep(AGAIN).await,
            }
        }
    }

    async fn beat(self, session_id: String, over: CancellationToken) {
        let every = Duration::from_millis(self.args.lease_ms / 4);
        let mut next = Instant::now() + every;
        loop {
            tokio::time::sleep_until(next).await;
            let mut api = self.api.clone();
            let request = HeartbeatRequest { session_id: session_id.clone(), draining: self.stopping.is_cancelled() };
            next = match calls::within(api.heartbeat(calls::limited(request))).await {
                Ok(_) => Instant::now() + every,
                Err(status) if calls::is_over(&status) => {
                    self.scribe.lost(&session_id);
                    over.cancel();
                    return;
                }
                Err(_) => Instant::now() + AGAIN,
            };
        }
    }

    /// Acquires jobs, repeating the call until it is answered. `None` when the session is not to be used any longer.
    async fn acquire(&self, session: &Session, acquire_no: i32) -> Option<Vec<LeasedJob>> {
        let request = AcquireJobsRequest {
            session_id: session.id.clone(),
            max_jobs: self.args.slots.cast_signed(),
            acquire_no,
            wait: Some(work::duration(WAIT.as_millis() as i64)),
        };
        loop {
            let mut api = self.api.clone();
            let answer = tokio::select! {
                () = self.stopping.cancelled() => return None,
                () = session.over.cancelled() => return None,
                answer = calls::within(api.acquire_jobs(calls::limited(request.clone()))) => answer,
            };
            match answer {
                Ok(reply) => {
                    self.scribe.acquired(&request, &reply);
                    return Some(reply.jobs);
                }
                Err(status) if calls::is_over(&status) => {
                    self.scribe.lost(&session.id);
                    session.over.cancel();
                    return None;
                }
                Err(_) => sleep(AGAIN).await,
            }
        }
    }

    /// Sends outcomes, repeating the call until it is answered. Gives up when a call fails after the session's end or
    /// after three lease times.
    async fn settle(&self, session: &Session, session_id: &str, settlements: Vec<Settlement>) {
        let request = SettleJobsRequest { session_id: session_id.to_owned(), settlements };
        let give_up = Instant::now() + 3 * Duration::from_millis(self.args.lease_ms);
        loop {
            let mut api = self.api.clone();
            let call = self.scribe.settling(&request);
            let answer = calls::within(api.settle_jobs(calls::limited(request.clone()))).await;
            self.scribe.settled(call, &request, answer.as_ref());
            match answer {
                Ok(_) => return,
                Err(status) if calls::is_over(&status) => return,
                Err(_) if Instant::now() > give_up || session.over.is_cancelled() => return,
                Err(_) => sleep(AGAIN).await,
            }
        }
    }

    async fn goodbye(&self, session: &Session) {
        session.beating.abort();
        session.over.cancel();
        let give_up = Instant::now() + Duration::from_millis(self.args.lease_ms);
        while Instant::now() < give_up {
            let mut api = self.api.clone();
            let request = EndSessionRequest { session_id: session.id.clone() };
            match calls::within(api.end_session(calls::limited(request))).await {
                Ok(_) => return self.scribe.ended(&session.id),
                Err(status) if calls::is_over(&status) => return,
                Err(_) => sleep(AGAIN).await,
            }
        }
    }
}

fn settlement(job: &LeasedJob, outcome: Outcome) -> Settlement {
    Settlement { lease_id: job.lease_id.clone(), outcome: Some(outcome) }
}
