//! The only conversion of the queue's errors to `tonic::Status`, with google.rpc details.
//!
//! | error | status | details |
//! | --- | --- | --- |
//! | wrong fields | INVALID_ARGUMENT | BadRequest: every field |
//! | no such job, session, error group or operation | NOT_FOUND | ErrorInfo: job_id, session_id, error_group, operation_id |
//! | key or request_id used with another request | ALREADY_EXISTS | ErrorInfo: id of the existing job or operation |
//! | wrong state, stale lease, ended session | FAILED_PRECONDITION | ErrorInfo: which of them |
//! | too many calls or bytes under way, storage full, session full | RESOURCE_EXHAUSTED | RetryInfo |
//! | storage unavailable, shutting down | UNAVAILABLE | RetryInfo |
//! | damaged storage | DATA_LOSS | ErrorInfo |
//! | defect | INTERNAL | none: the log has it |

use std::{collections::HashMap, time::Duration};

use jobqueue_shared::limits;
use jobqueue_store::StoreError;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use tracing::{debug, error};

use crate::queue::{Error, error::Violation};

const DOMAIN: &str = "jobqueue";
/// Delay before a retry after a full queue, which empties at every commit.
const SOON: Duration = Duration::from_millis(250);
/// Delay before a retry after a failure that an operator or another process has to end.
const LATER: Duration = Duration::from_secs(1);

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Invalid(violations) => invalid(&violations),
            Error::NoJob(id) => with_info(Code::NotFound, text, "JOB_NOT_FOUND", [("job_id", id.to_string())]),
            Error::KeyReused { field, existing } => {
                let info = [("job_id", existing.to_string()), ("field", field)];
                with_info(Code::AlreadyExists, text, "IDEMPOTENCY_KEY_REUSED", info)
            }
            Error::WrongState { id, state, .. } => {
                let info = [("job_id", id.to_string()), ("state", state.word().to_owned())];
                with_info(Code::FailedPrecondition, text, "WRONG_STATE", info)
            }
            Error::NoOperation(id) => {
                with_info(Code::NotFound, text, "OPERATION_NOT_FOUND", [("operation_id", id.to_string())])
            }
            Error::RequestIdReused { existing } => {
                let info = [("operation_id", existing.to_string()), ("field", "request_id".to_owned())];
                with_info(Code::AlreadyExists, text, "IDEMPOTENCY_KEY_REUSED", info)
            }
            Error::WrongOperationState { id, .. } => {
                with_info(Code::FailedPrecondition, text, "WRONG_STATE", [("operation_id", id.to_string())])
            }
            Error::SessionEnded(id) => {
                with_info(Code::FailedPrecondition, text, "SESSION_ENDED", [("session_id", id.to_string())])
            }
            Error::SessionNotFound(id) => {
                with_info(Code::NotFound, text, "SESSION_NOT_FOUND", [("session_id", id.to_string())])
            }
            Error::NoErrorGroup(id) => {
                with_info(Code::NotFound, text, "ERROR_GROUP_NOT_FOUND", [("error_group", id.to_string())])
            }
            Error::StaleLease => with_info(Code::FailedPrecondition, text, "LEASE_NOT_VALID", []),
            Error::SessionFull => with_retry(Code::ResourceExhausted, text, "SESSION_FULL", LATER),
            Error::Busy => with_retry(Code::ResourceExhausted, text, "BUSY", SOON),
            Error::Draining => with_retry(Code::Unavailable, text, "SHUTTING_DOWN", LATER),
            Error::Store(error) => store(&error),
        }
    }
}

fn store(error: &StoreError) -> Status {
    match error {
        // The health check logs this, once an outage.
        StoreError::Unavailable(_) | StoreError::Conflict(_) => {
            debug!(%error, "a call found the storage unavailable");
            let text = "the storage is unavailable; it is not known whether a write that was under way took effect";
            with_retry(Code::Unavailable, text, "STORAGE_UNAVAILABLE", LATER)
        }
        StoreError::Full(_) => {
            debug!(%error, "a call found the storage full");
            with_retry(Code::ResourceExhausted, "the storage is full", "STORAGE_FULL", LATER)
        }
        StoreError::Damaged(_) => {
            error!(%error, "a call found the storage damaged");
            let text = "the storage is damaged; the server's log has the details";
            with_info(Code::DataLoss, text, "STORAGE_DAMAGED", [])
        }
        StoreError::Data(_) | StoreError::Defect(_) | StoreError::Startup(_) => {
            error!(%error, "a call failed by a defect");
            Status::internal("internal error; the server's log has the details")
        }
        StoreError::Unsupported(text) => Status::unimplemented(*text),
    }
}

fn invalid(violations: &[Violation]) -> Status {
    let mut details = ErrorDetails::new();
    for it in violations {
        details.add_bad_request_violation(&it.field, &it.description);
    }
    // The message is for callers that do not show the details.
    let text = match violations {
        [] => "the request is not valid".to_owned(),
        [only] => format!("{} {}", only.field, only.description),
        [first, rest @ ..] => {
            format!("{} {} (and {} more; see the details)", first.field, first.description, rest.len())
        }
    };
    Status::with_error_details(Code::InvalidArgument, text, details)
}

fn with_info<const N: usize>(
    code: Code,
    text: impl Into<String>,
    reason: &str,
    metadata: [(&str, String); N],
) -> Status {
    let metadata: HashMap<String, String> = metadata.into_iter().map(|(key, it)| (key.to_owned(), it)).collect();
    Status::with_error_details(code, text, ErrorDetails::with_error_info(reason, DOMAIN, metadata))
}

fn with_retry(code: Code, text: impl Into<String>, reason: &str, delay: Duration) -> Status {
    let mut details = ErrorDetails::with_retry_info(Some(delay));
    details.set_error_info(reason, DOMAIN, HashMap::new());
    Status::with_error_details(code, text, details)
}

/// Status for a request to `path` whose message is larger than `limits::REQUEST_BYTES`, and was not read for that
/// reason.
pub(super) fn too_large(path: &str) -> Status {
    // The only field of each method that can be so large.
    let field = match path.rsplit('/').next() {
        Some("SubmitJob") => "payload_json",
        Some("SubmitJobs") => "jobs",
        Some("SettleJobs") => "settlements",
        Some("StartOperation") => "spec.filter",
        _ => "",
    };
    let description = format!("makes the request larger than {} bytes", limits::REQUEST_BYTES);
    invalid(&[Violation { field: field.into(), description }])
}

/// Status for a request that cannot be decoded. `text` is the decoder's error: `failed to decode Protobuf message:
/// SubmitJobRequest.worker_id: invalid string value: data is not UTF-8 encoded`.
pub(super) fn malformed(text: &str) -> Status {
    let mut words = text.strip_prefix("failed to decode Protobuf message: ").unwrap_or(text).split(": ").peekable();
    let mut fields = Vec::new();
    while let Some((_, field)) = words.peek().and_then(|word| word.split_once('.')).filter(|(message, field)| {
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        !field.is_empty() && plain(message) && plain(field)
    }) {
        fields.push(field);
        words.next();
    }
    let why = words.collect::<Vec<_>>().join(": ");
    let description = format!("cannot be read: {}", limits::cut(&why, 200));
    if fields.is_empty() {
        return Status::invalid_argument(format!("the request {description}"));
    }
    invalid(&[Violation { field: fields.join("."), description }])
}

/// Status for a method or service that does not exist.
pub(super) fn no_such_method(path: &str) -> Status {
    Status::unimplemented(format!("there is no method {}", limits::cut(path, 200)))
}

/// Status for a call that exceeded its deadline.
pub(super) fn deadline() -> Status {
    Status::deadline_exceeded("the call's deadline passed; it is not known whether a write took effect")
}

/// Status for a call whose request or answer exceeds the budget of all connections.
pub(crate) fn no_memory() -> Status {
    let text = "too many bytes of requests and answers are under way on all connections (--transfer-memory)";
    with_retry(Code::ResourceExhausted, text, "TRANSFER_MEMORY", LATER)
}

/// Status for a call whose request stops arriving, or arrives too slowly.
pub(crate) fn slow_request() -> Status {
    Status::deadline_exceeded("the request did not arrive in time; nothing was done")
}

/// Status for a call whose handler panicked; the log has the location.
pub(super) fn panicked() -> Status {
    Status::internal("internal error; the server's log has the details")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jobqueue_shared::state::State;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn every_wrong_field_is_in_the_details() {
        let violation = |field: &str| Violation { field: field.into(), description: "is wrong".into() };
        let status = Status::from(Error::Invalid(vec![violation("jobs[17].payload_json"), violation("priority")]));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "jobs[17].payload_json is wrong (and 1 more; see the details)");
        let details = status.get_error_details();
        let fields: Vec<_> = details.bad_request().unwrap().field_violations.iter().map(|it| &it.field[..]).collect();
        assert_eq!(fields, ["jobs[17].payload_json", "priority"]);
    }

    #[test]
    fn programs_can_read_what_people_read() {
        let id = Uuid::from_u128(7);
        let status = Status::from(Error::KeyReused { field: "idempotency_key".into(), existing: id });
        assert_eq!(status.code(), Code::AlreadyExists);
        let info = status.get_details_error_info().unwrap();
        assert_eq!((&info.reason[..], &info.domain[..]), ("IDEMPOTENCY_KEY_REUSED", "jobqueue"));
        assert_eq!(info.metadata["job_id"], id.to_string());
        let status = Status::from(Error::WrongState { id, state: State::Done, verb: "cancelled" });
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(status.message(), format!("job {id} is done; it cannot be cancelled"));
        assert_eq!(status.get_details_error_info().unwrap().metadata["state"], "done");
        assert!(Status::from(Error::NoJob(id)).message().contains(&id.to_string()));
    }

    #[test]
    fn what_will_pass_says_when_to_try_again() {
        for (error, code) in [
            (Error::Busy, Code::ResourceExhausted),
            (Error::Draining, Code::Unavailable),
            (StoreError::Unavailable("x".into()).into(), Code::Unavailable),
            (StoreError::Conflict("x".into()).into(), Code::Unavailable),
            (StoreError::Full("x".into()).into(), Code::ResourceExhausted),
        ] {
            let status = Status::from(error);
            assert_eq!(status.code(), code);
            assert!(status.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
        }
    }

    #[test]
    fn a_request_that_cannot_be_read_names_the_field() {
        for (text, field) in [
            (
                "failed to decode Protobuf message: SubmitJobRequest.worker_id: invalid string value: data is not UTF-8 encoded",
                "worker_id",
            ),
            ("failed to decode Protobuf message: SubmitJobsRequest.jobs: SubmitJobRequest.task: invalid", "jobs.task"),
        ] {
            let status = malformed(text);
            assert_eq!(status.code(), Code::InvalidArgument);
            assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, field);
        }
        for text in ["failed to decode Protobuf message: invalid wire type: x", "Missing request message.", ""] {
            assert_eq!(malformed(text).code(), Code::InvalidArgument);
        }
    }

    #[test]
    fn internals_stay_inside() {
        for error in [StoreError::Defect("SELECT secret".into()), StoreError::Data("secret".into())] {
            let status = Status::from(Error::Store(Arc::new(error)));
            assert_eq!(status.code(), Code::Internal);
            assert!(!format!("{status:?}").contains("secret"));
        }
        let status = Status::from(Error::from(StoreError::Unavailable("postgres://secret".into())));
        assert!(!format!("{status:?}").contains("secret"));
    }
}
