//! Calls that end in time, and what their answers say about what was done: yes, no, or nothing.

use std::{error::Error as _, time::Duration};

use tokio::time::timeout;
use tonic::{Code, ConnectError, Request, Response, Status};
use tonic_types::StatusExt as _;

/// How long one may take, and a moment for what a long poll waits included.
const CALL: Duration = Duration::from_secs(4);

pub(super) fn limited<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL);
    request
}

/// The answer to a call made with [`limited`]. The channel does not count the time that connecting takes.
pub(super) async fn within<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
    match timeout(CALL, call).await {
        Ok(answer) => answer.map(Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("no answer")),
    }
}

/// The server certainly did not do it.
pub(super) fn is_refusal(status: &Status) -> bool {
    let refused = matches!(
        status.code(),
        Code::InvalidArgument
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::NotFound
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
    );
    // What is refused for lack of room is refused before anything is done, or the library could not send it again.
    let busy = status.code() == Code::ResourceExhausted && status.get_details_retry_info().is_some();
    refused || busy || is_unsent(status)
}

/// The session, or all that is known of it, is over.
pub(super) fn is_over(status: &Status) -> bool {
    matches!(status.code(), Code::FailedPrecondition | Code::NotFound)
}

fn is_unsent(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// For the history.
pub(super) fn text(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}
