//! Protobuf messages of the calls that every job passes through, encoded or decoded.

use std::hint::black_box;

use jobqueue_shared::{
    lease::LeaseId,
    proto::v1::{
        AcquireJobsResponse, Job, LeasedJob, SettleJobsRequest, Settlement, SubmitJobRequest, SubmitJobsRequest,
        settlement::{Complete, Outcome},
    },
};
use prost::Message as _;
use uuid::Uuid;

use super::function::Call;
use crate::load::payload::payload;

pub(super) fn read_submits(jobs: usize) -> Call {
    let job = |number: usize| SubmitJobRequest {
        worker_id: "worker-1a".to_owned(),
        payload_json: payload(number as u64, "", 64),
        task: "email".to_owned(),
        ..SubmitJobRequest::default()
    };
    let bytes = SubmitJobsRequest { jobs: (0..jobs).map(job).collect() }.encode_to_vec();
    Box::new(move || SubmitJobsRequest::decode(black_box(bytes.as_slice())).map_or(0, |request| request.jobs.len()))
}

pub(super) fn write_acquired(jobs: usize) -> Call {
    let leased = |number: usize| LeasedJob {
        lease_id: lease_text(number),
        job: Some(Job {
            id: Uuid::from_u128(number as u128).to_string(),
            worker_id: "worker-1a".to_owned(),
            payload_json: payload(number as u64, "", 64),
            task: "email".to_owned(),
            attempt_count: 1,
            max_retries: 3,
            ..Job::default()
        }),
        deadline: None,
    };
    let answer = AcquireJobsResponse { jobs: (0..jobs).map(leased).collect(), ..AcquireJobsResponse::default() };
    Box::new(move || black_box(&answer).encode_to_vec().len())
}

pub(super) fn read_settlements(jobs: usize) -> Call {
    let settlement = |number: usize| Settlement {
        lease_id: lease_text(number),
        outcome: Some(Outcome::Complete(Complete::default())),
    };
    let settlements = (0..jobs).map(settlement).collect();
    let bytes = SettleJobsRequest { session_id: Uuid::nil().to_string(), settlements }.encode_to_vec();
    Box::new(move || {
        let request = SettleJobsRequest::decode(black_box(bytes.as_slice())).unwrap_or_default();
        let leases = request.settlements.iter().filter_map(|it| it.lease_id.parse::<LeaseId>().ok());
        leases.count()
    })
}

fn lease_text(number: usize) -> String {
    LeaseId { claim_id: Uuid::from_u128(number as u128 / 64), job_id: Uuid::from_u128(number as u128) }.to_string()
}
