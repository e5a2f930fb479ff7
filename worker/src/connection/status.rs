//! Judgment of a failed call: whether the server was away or busy, and whether the call may have been carried out.

use std::{error::Error as _, fmt::Write as _};

use tonic::{Code, ConnectError, Status};
use tonic_types::StatusExt as _;

/// True when the connection could not be made, so that nothing of the call was sent.
pub(crate) fn is_unsent(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// True when the server was away or went away during the call. It is unknown whether it carried the call out.
pub(crate) fn is_away(status: &Status) -> bool {
    // A status with a source was made on this side, because of a broken connection.
    status.code() == Code::Unavailable
        || (matches!(status.code(), Code::Unknown | Code::Internal | Code::Cancelled) && status.source().is_some())
}

/// True when the server refused the call before it did anything, and says when to come back (RetryInfo).
pub(crate) fn is_busy(status: &Status) -> bool {
    status.code() == Code::ResourceExhausted && status.get_details_retry_info().is_some()
}

/// Text of a status for people: the code, the message and the root cause.
pub(crate) fn describe(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let mut source = status.source();
    let mut first = None;
    while let Some(error) = source {
        first = Some(error);
        source = error.source();
    }
    if let Some(first) = first.map(ToString::to_string).filter(|first| !text.contains(first)) {
        let _ = write!(text, " ({first})");
    }
    text
}
