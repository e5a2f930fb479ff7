//! Errors of a [`Client`](crate::Client). A variant for an answer of the server keeps its gRPC status.

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::connection::status;

/// Reason why a call of the client failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not of the form `http://host:port`.
    #[error("{0}")]
    Address(String),
    /// The payload could not be written as JSON; nothing was sent.
    #[error("the payload cannot be written as JSON")]
    Payload(#[source] serde_json::Error),
    /// The text of a filter is not understood; nothing was sent.
    #[error("the filter: {0}")]
    Filter(String),
    /// `INVALID_ARGUMENT`: [`Error::field_violations`] lists every field that is invalid.
    #[error("{}", violations(.0))]
    Invalid(Box<Status>),
    /// `NOT_FOUND`: the job does not exist.
    #[error("{}", .0.message())]
    NotFound(Box<Status>),
    /// `ALREADY_EXISTS`: the idempotency key belongs to another request.
    #[error("{}", status.message())]
    KeyTaken {
        /// Id of the job that the key belongs to; "" when the server did not say.
        existing_job_id: String,
        status: Box<Status>,
    },
    /// `FAILED_PRECONDITION`: the job's state does not allow the call.
    #[error("{}", .0.message())]
    WrongState(Box<Status>),
    /// The server or its storage is away or busy, or did not answer in time. It is unknown whether the call was carried
    /// out.
    #[error("{}", status::describe(.0))]
    Unavailable(Box<Status>),
    /// Any other status.
    #[error("{}", status::describe(.0))]
    Other(Box<Status>),
    /// The server's answer lacks a required part.
    #[error("the server's answer has no {0}")]
    Incomplete(&'static str),
}

/// Field of a request that the server found invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// Name of the field: `payload_json`, or `jobs[17].payload_json` in a batch.
    pub field: String,
    /// Problem with the value, and the limit.
    pub description: String,
}

impl Error {
    /// The server's status; `None` when no answer with a status was received.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Address(_) | Self::Payload(_) | Self::Filter(_) | Self::Incomplete(_) => None,
            Self::Invalid(status)
            | Self::NotFound(status)
            | Self::KeyTaken { status, .. }
            | Self::WrongState(status)
            | Self::Unavailable(status)
            | Self::Other(status) => Some(status),
        }
    }

    /// Fields that the server found invalid; empty for every other error.
    pub fn field_violations(&self) -> Vec<FieldViolation> {
        match self {
            Self::Invalid(status) => fields(status),
            _ => Vec::new(),
        }
    }
}

impl From<Status> for Error {
    fn from(failure: Status) -> Self {
        let failure = Box::new(failure);
        match failure.code() {
            Code::InvalidArgument => Self::Invalid(failure),
            Code::NotFound => Self::NotFound(failure),
            Code::AlreadyExists => {
                let existing_job_id = failure
                    .get_details_error_info()
                    .and_then(|info| info.metadata.get("job_id").cloned())
                    .unwrap_or_default();
                Self::KeyTaken { existing_job_id, status: failure }
            }
            Code::FailedPrecondition => Self::WrongState(failure),
            Code::DeadlineExceeded => Self::Unavailable(failure),
            _ if status::is_away(&failure) || status::is_busy(&failure) => Self::Unavailable(failure),
            _ => Self::Other(failure),
        }
    }
}

fn fields(status: &Status) -> Vec<FieldViolation> {
    let details = status.get_details_bad_request();
    let violations = details.into_iter().flat_map(|details| details.field_violations);
    violations.map(|violation| FieldViolation { field: violation.field, description: violation.description }).collect()
}

fn violations(status: &Status) -> String {
    let fields: Vec<_> = fields(status).iter().map(|it| format!("{} {}", it.field, it.description)).collect();
    if fields.is_empty() { status.message().to_owned() } else { fields.join("; ") }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn every_wrong_field_is_named() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("worker_id", "is empty");
        details.add_bad_request_violation("priority", "is 12; the limit is 9");
        let error = Error::from(Status::with_error_details(Code::InvalidArgument, "2 fields are wrong", details));
        assert_eq!(error.to_string(), "worker_id is empty; priority is 12; the limit is 9");
        assert_eq!(error.field_violations()[1].field, "priority");
        assert_eq!(error.status().unwrap().code(), Code::InvalidArgument);
    }

    #[test]
    fn a_taken_key_tells_whose_it_is() {
        let mut details = ErrorDetails::new();
        details.set_error_info("KEY_TAKEN", "jobqueue", HashMap::from([("job_id".to_owned(), "42".to_owned())]));
        let error = Error::from(Status::with_error_details(Code::AlreadyExists, "taken", details));
        assert!(matches!(error, Error::KeyTaken { existing_job_id, .. } if existing_job_id == "42"));
    }
}
