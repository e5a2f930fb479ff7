//! Records the calls between a worker and a server.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use jobqueue_shared::{
    lease::LeaseId,
    proto::v1::{
        AcquireJobsRequest, AcquireJobsResponse, LeasedJob, RegisterSessionRequest, RegisterSessionResponse,
        SettleJobsRequest, SettleJobsResponse, Settlement, settlement,
    },
    time::{duration_ms, timestamp_ms},
};
use parking_lot::{Mutex, MutexGuard};
use tonic::{Code, Status};
use uuid::Uuid;

use super::{calls, note};
use crate::history::{self, Kind, Outcome, Recorder};

/// Recorder of a worker's calls. Clones are cheap and share one history.
#[derive(Clone)]
pub(super) struct Scribe(Arc<Inner>);

struct Inner {
    recorder: Recorder,
    calls: AtomicU64,
    leases: Mutex<Leases>,
}

/// Leases that this process received.
#[derive(Default)]
struct Leases {
    runs: HashMap<String, Run>,
    /// Newest lease of each run. A run is handed out twice when a crash of the database forgot the first time.
    by_run: HashMap<Run, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Run {
    job: Uuid,
    run_no: i32,
}

impl Scribe {
    pub(super) fn new(recorder: Recorder) -> Self {
        Self(Arc::new(Inner { recorder, calls: AtomicU64::new(0), leases: Mutex::default() }))
    }

    fn write(&self, kinds: impl IntoIterator<Item = Kind>) {
        note(&self.0.recorder, kinds);
    }

    fn leases(&self) -> MutexGuard<'_, Leases> {
        self.0.leases.lock()
    }

    pub(super) fn registered(&self, request: &RegisterSessionRequest, reply: &RegisterSessionResponse) {
        self.write([Kind::SessionRegistered {
            session: id(&reply.session_id),
            worker_id: request.worker_id.clone(),
            slots: request.slots.max(0).cast_unsigned(),
            lease_ms: reply.lease_time.as_ref().map_or(0, duration_ms).max(0).cast_unsigned(),
        }]);
    }

    pub(super) fn silent(&self, session_id: &str) {
        self.write([Kind::SessionSilent { session: id(session_id) }]);
    }

    pub(super) fn ended(&self, session_id: &str) {
        self.write([Kind::SessionEnded { session: id(session_id) }]);
    }

    pub(super) fn lost(&self, session_id: &str) {
        self.write([Kind::SessionLost { session: id(session_id) }]);
    }

    pub(super) fn acquired(&self, request: &AcquireJobsRequest, reply: &AcquireJobsResponse) {
        if reply.jobs.is_empty() {
            return;
        }
        let kinds: Vec<_> = reply.jobs.iter().map(|leased| acquired(request, leased)).collect();
        let mut leases = self.leases();
        for leased in &reply.jobs {
            let run = Run { job: job_of(leased), run_no: leased.job.as_ref().map_or(0, |job| job.run_no) };
            leases.runs.insert(leased.lease_id.clone(), run);
            leases.by_run.insert(run, leased.lease_id.clone());
        }
        drop(leases);
        self.write(kinds);
    }

    /// Records that the handler begins.
    pub(super) fn started(&self, job: Uuid, run_no: i32) {
        let lease = self.lease_of(job, run_no);
        self.write([Kind::Started { lease, job, run_no }]);
    }

    pub(super) fn finished(&self, job: Uuid, run_no: i32, how: &str) {
        let lease = self.lease_of(job, run_no);
        self.write([Kind::Finished { lease, job, run_no, how: how.to_owned() }]);
    }

    fn lease_of(&self, job: Uuid, run_no: i32) -> String {
        self.leases().by_run.get(&Run { job, run_no }).cloned().unwrap_or_default()
    }

    /// Records outcomes before they are sent. Returns the call's number for [`Scribe::settled`].
    pub(super) fn settling(&self, request: &SettleJobsRequest) -> u64 {
        let call = self.0.calls.fetch_add(1, Ordering::Relaxed);
        let session = id(&request.session_id);
        let settles = self.settles(request);
        self.write(settles.into_iter().map(|(Run { job, run_no }, it, outcome)| Kind::SettleInvoke {
            call,
            session,
            lease: it.lease_id.clone(),
            job,
            run_no,
            outcome,
            delay_ms: delay_ms(it),
        }));
        call
    }

    pub(super) fn settled(&self, call: u64, request: &SettleJobsRequest, reply: Result<&SettleJobsResponse, &Status>) {
        let session = id(&request.session_id);
        let settles = self.settles(request);
        let kinds = settles.into_iter().enumerate().map(|(place, (Run { job, run_no }, it, outcome))| {
            let lease = it.lease_id.clone();
            let result = match reply {
                Ok(reply) => reply.results.get(place),
                Err(status) if calls::is_over(status) => {
                    let error = calls::text(status);
                    return Kind::SettleRefused { call, session, lease, job, run_no, outcome, error };
                }
                Err(status) => {
                    let error = calls::text(status);
                    return Kind::SettleUnknown { call, session, lease, job, run_no, outcome, error };
                }
            };
            let said = result.map(|result| (Code::from(result.code), history::Status::try_from(result.status())));
            match said {
                Some((Code::Ok, Ok(status))) => Kind::SettleOk { call, session, lease, job, run_no, outcome, status },
                Some((Code::FailedPrecondition, _)) => {
                    let error = result.map(|it| it.message.clone()).unwrap_or_default();
                    Kind::SettleRefused { call, session, lease, job, run_no, outcome, error }
                }
                said => {
                    let error = format!("{said:?}");
                    Kind::SettleUnknown { call, session, lease, job, run_no, outcome, error }
                }
            }
        });
        self.write(kinds);
    }

    fn settles<'a>(&self, request: &'a SettleJobsRequest) -> Vec<(Run, &'a Settlement, Outcome)> {
        let leases = self.leases();
        let run = |lease: &str| {
            let job = || lease.parse::<LeaseId>().map_or(Uuid::nil(), |lease| lease.job_id);
            leases.runs.get(lease).copied().unwrap_or_else(|| Run { job: job(), run_no: 0 })
        };
        request
            .settlements
            .iter()
            .filter_map(|it| Some((run(&it.lease_id), it, outcome(it.outcome.as_ref()?))))
            .collect()
    }
}

fn acquired(request: &AcquireJobsRequest, leased: &LeasedJob) -> Kind {
    let job = leased.job.clone().unwrap_or_default();
    Kind::Acquired {
        session: id(&request.session_id),
        acquire_no: request.acquire_no,
        lease: leased.lease_id.clone(),
        job: job_of(leased),
        run_no: job.run_no,
        attempt: job.attempt_count,
        started_at_ms: job.started_at.as_ref().map_or(0, timestamp_ms),
        deadline_ms: leased.deadline.as_ref().map(timestamp_ms),
        payload: job.payload_json,
    }
}

fn job_of(leased: &LeasedJob) -> Uuid {
    leased.job.as_ref().map_or(Uuid::nil(), |job| id(&job.id))
}

/// UUID in the text; the nil UUID when a server sends something else, which the checker then reports.
pub(super) fn id(text: &str) -> Uuid {
    text.parse().unwrap_or_default()
}

fn outcome(outcome: &settlement::Outcome) -> Outcome {
    match outcome {
        settlement::Outcome::Complete(_) => Outcome::Complete,
        settlement::Outcome::Fail(fail) if fail.permanent => Outcome::FailPermanent,
        settlement::Outcome::Fail(_) => Outcome::Fail,
        settlement::Outcome::Snooze(_) => Outcome::Snooze,
        settlement::Outcome::Release(release) if release.no_handler => Outcome::NoHandler,
        settlement::Outcome::Release(_) => Outcome::Release,
    }
}

fn delay_ms(settlement: &Settlement) -> Option<i64> {
    match settlement.outcome.as_ref()? {
        settlement::Outcome::Fail(fail) => fail.retry_after.as_ref().map(duration_ms),
        settlement::Outcome::Snooze(snooze) => snooze.delay.as_ref().map(duration_ms),
        _ => None,
    }
}
