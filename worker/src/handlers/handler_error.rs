//! Failure of a handler, and what becomes of the job: tried again, failed for good, or put off.

use std::{error::Error as StdError, fmt, time::Duration};

/// Failure of a handler: retryable, permanent, or a snooze.
///
/// Every other error converts to a retryable one, with its causes in the text, so `?` works in a handler.
pub struct HandlerError {
    pub(crate) kind: FailureKind,
    pub(crate) message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    Retry { after: Option<Duration> },
    Permanent,
    Snooze { delay: Duration },
}

impl HandlerError {
    /// Retryable failure, which uses up an attempt. The job is tried again after the delay of its retry policy, as long
    /// as attempts are left.
    pub fn retry(error: impl fmt::Display) -> Self {
        Self::new(FailureKind::Retry { after: None }, &error)
    }

    /// Failure like [`HandlerError::retry`], but with `delay` (at most a year) instead of the policy's.
    pub fn retry_after(delay: Duration, error: impl fmt::Display) -> Self {
        Self::new(FailureKind::Retry { after: Some(delay) }, &error)
    }

    /// Permanent failure, for which trying again is useless: the job becomes a dead letter at once.
    pub fn permanent(error: impl fmt::Display) -> Self {
        Self::new(FailureKind::Permanent, &error)
    }

    /// Snooze, which is no failure: the job runs again after `delay` (at most a year), and no attempt is used up.
    pub fn snooze(delay: Duration, reason: impl fmt::Display) -> Self {
        Self::new(FailureKind::Snooze { delay }, &reason)
    }

    fn new(kind: FailureKind, message: &dyn fmt::Display) -> Self {
        Self { kind, message: message.to_string() }
    }
}

impl<E: StdError> From<E> for HandlerError {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Some errors repeat their cause in their own text.
            if !message.contains(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            source = cause.source();
        }
        Self::retry(message)
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HandlerError").field(&self.kind).field(&self.message).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn an_error_tells_its_causes_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot reach the mail server")]
        struct Mail(#[source] io::Error);
        #[derive(Debug, thiserror::Error)]
        #[error("sending failed: {0}")]
        struct Sending(#[source] Mail);
        let error = HandlerError::from(Sending(Mail(io::Error::other("refused"))));
        assert_eq!(error.message, "sending failed: cannot reach the mail server: refused");
        assert_eq!(error.kind, FailureKind::Retry { after: None });
    }
}
