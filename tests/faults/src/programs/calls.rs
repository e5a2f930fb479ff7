//! Calls with a deadline, and what an error says about the effect of a call: certainly none, or unknown.

use std::{error::Error as _, time::Duration};

use tokio::time::timeout;
use tonic::{Code, ConnectError, Request, Response, Status};
use tonic_types::StatusExt as _;

/// Time limit of a call; it includes the wait of a long poll.
const CALL: Duration = Duration::from_secs(4);

pub(super) fn limited<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL);
    request
}

/// Awaits a call made with [`limited`], under the same limit: the channel does not count the time that connecting
/// takes.
pub(super) async fn within<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
    match timeout(CALL, call).await {
        Ok(answer) => answer.map(Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("no answer")),
    }
}

/// True if the server certainly did not carry out the call.
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
    // A server without room refuses before it does anything; otherwise the library could not send the call again.
    let busy = status.code() == Code::ResourceExhausted && status.get_details_retry_info().is_some();
    refused || busy || is_unsent(status)
}

/// True if the session is over or unknown to the server.
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

/// Text of an error in the history.
pub(super) fn text(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}
