//! Pure functions on the path of every job, each by itself: for criterion, and for a tool that counts instructions and
//! therefore shows a regression on a machine that is busy with other things.

use std::hint::black_box;

use anyhow::{Result, bail};
use jobqueue_shared::{
    json,
    lease::LeaseId,
    limits,
    proto::v1::{
        AcquireJobsResponse, Job, LeasedJob, SettleJobsRequest, Settlement, SubmitJobRequest, SubmitJobsRequest,
        settlement::{Complete, Outcome},
    },
    retry::RetryPolicy,
};
use prost::Message as _;
use uuid::Uuid;

use crate::{
    pure_store::{self as store, Work},
    submit::payload,
};

/// Jobs in one call.
const BATCH: usize = 500;

/// Function to measure: its name, and a constructor that makes its input and returns the closure to call.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    pub name: &'static str,
    pub make: fn() -> Work,
}

pub const FUNCTIONS: [Function; 9] = [
    Function { name: "prepare-500", make: || store::prepare(BATCH) },
    Function { name: "hand-over-500", make: || store::hand_over(BATCH) },
    Function { name: "settle-500", make: || store::settle(BATCH) },
    Function { name: "lease-to-text-and-back", make: lease },
    Function { name: "retry-delay", make: retry },
    Function { name: "check-json-2-kib", make: check },
    Function { name: "read-submits-500", make: read_submits },
    Function { name: "write-acquired-500", make: write_acquired },
    Function { name: "read-settlements-500", make: read_settlements },
];

/// Calls the function of that name `count` times; without a name, prints all names.
pub fn call(name: Option<&str>, count: u64) -> Result<()> {
    let Some(name) = name else {
        for function in FUNCTIONS {
            println!("{}", function.name);
        }
        return Ok(());
    };
    let Some(function) = FUNCTIONS.iter().find(|function| function.name == name) else {
        bail!("there is no function {name}");
    };
    let mut work = (function.make)();
    for _ in 0..count {
        black_box(work());
    }
    Ok(())
}

fn lease() -> Work {
    let lease = LeaseId { claim_id: Uuid::from_u128(u128::MAX / 3), job_id: Uuid::from_u128(u128::MAX / 7) };
    Box::new(move || {
        let text = black_box(lease).to_string();
        text.parse::<LeaseId>().map_or(0, |lease| usize::from(lease.job_id.is_nil())) + text.len()
    })
}

fn retry() -> Work {
    let policy = RetryPolicy::default();
    let mut used = 0;
    Box::new(move || {
        used = used % limits::MAX_RETRIES + 1;
        policy.delay_ms(black_box(used), 0.25) as usize
    })
}

fn check() -> Work {
    let text = payload(7, "", 2 * 1024);
    Box::new(move || usize::from(json::check(black_box(&text), limits::PAYLOAD_DEFAULT, limits::JSON_DEPTH).is_ok()))
}

fn read_submits() -> Work {
    let job = |number: usize| SubmitJobRequest {
        worker_id: "worker-1a".to_owned(),
        payload_json: payload(number as u64, "", 64),
        task: "email".to_owned(),
        ..SubmitJobRequest::default()
    };
    let bytes = SubmitJobsRequest { jobs: (0..BATCH).map(job).collect() }.encode_to_vec();
    Box::new(move || SubmitJobsRequest::decode(black_box(bytes.as_slice())).map_or(0, |request| request.jobs.len()))
}

fn write_acquired() -> Work {
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
    let answer = AcquireJobsResponse { jobs: (0..BATCH).map(leased).collect(), ..AcquireJobsResponse::default() };
    Box::new(move || black_box(&answer).encode_to_vec().len())
}

fn read_settlements() -> Work {
    let settlement = |number: usize| Settlement {
        lease_id: lease_text(number),
        outcome: Some(Outcome::Complete(Complete::default())),
    };
    let settlements = (0..BATCH).map(settlement).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_does_something_each_time() {
        for Function { name, make } in FUNCTIONS {
            let mut work = make();
            let (first, second) = (work(), work());
            assert!(first > 0 && second > 0, "{name}: {first}, {second}");
        }
        assert!(call(Some("no-such-function"), 1).is_err());
    }
}
