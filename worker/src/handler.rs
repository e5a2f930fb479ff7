//! Handlers of jobs, and the results and errors that they return.

use std::{error::Error as StdError, fmt, marker::PhantomData, time::Duration};

use async_trait::async_trait;
use jobqueue_shared::limits;
use serde::{Serialize, de::DeserializeOwned};

use crate::context::Context;

pub type HandlerResult = Result<Output, HandlerError>;

/// Handler of the jobs of one task. Most handlers are async functions given to [`WorkerBuilder::handler`]; this trait
/// is for those that need the payload as it was submitted, or choose their task at run time.
///
/// Its future may be dropped at any await once the job's [`Context`] was cancelled and a few seconds have passed.
///
/// A handler must not block its thread: while all threads of the runtime are blocked, no outcome is sent, no job starts, and
/// no handler learns that it has to stop. Give blocking work to [`tokio::task::spawn_blocking`], which has threads of
/// its own. Heartbeats come from a separate thread, so no job is lost meanwhile, and the worker logs a warning.
///
/// [`WorkerBuilder::handler`]: crate::WorkerBuilder::handler
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    async fn handle(&self, context: Context) -> HandlerResult;

    /// Time limit of an attempt of a job that sets no `attempt_timeout`; see
    /// [`WorkerBuilder::attempt_timeout`](crate::WorkerBuilder::attempt_timeout). Default: none.
    fn default_attempt_timeout(&self) -> Option<Duration> {
        None
    }
}

/// Output of a completed job: a result of at most 64 KiB of JSON, and a note for people of at most 1 KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    pub(crate) result_json: String,
    pub(crate) note: String,
}

impl Output {
    /// Output without a result.
    pub fn none() -> Self {
        Self::default()
    }

    /// Output with `value` as JSON; `()` and `None` are no result. The job is completed in any case: a value that
    /// cannot be written as JSON, or is too large, is dropped, and the note says so.
    pub fn of(value: &impl Serialize) -> Self {
        match serde_json::to_string(value) {
            Ok(json) if json == "null" => Self::none(),
            Ok(json) => Self::json(json),
            Err(error) => Self::none().note(format!("result dropped: it cannot be written as JSON: {error}")),
        }
    }

    /// Output with a result that is JSON already. A result that is too large is dropped, and the note says so.
    pub fn json(result_json: impl Into<String>) -> Self {
        let result_json = result_json.into();
        if result_json.len() > limits::RESULT {
            return Self::too_large(result_json.len() as u64);
        }
        Self { result_json, note: String::new() }
    }

    /// Output whose result of `bytes` bytes was too large to be kept; the note says so.
    pub fn too_large(bytes: u64) -> Self {
        let (size, limit) = (bytes.div_ceil(1024), limits::RESULT / 1024);
        Self::none().note(format!("result of {size} KiB dropped: the limit is {limit} KiB"))
    }

    /// Adds a note for people; cut to 1 KiB.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = clean(note.into(), limits::NOTE);
        self
    }
}

/// Failure of a handler: retryable, permanent, or a snooze.
///
/// Every other error converts to a retryable one, with its causes in the text, so `?` works in a handler.
pub struct HandlerError {
    pub(crate) kind: Kind,
    pub(crate) message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Retry { after: Option<Duration> },
    Permanent,
    Snooze { delay: Duration },
}

impl HandlerError {
    /// Retryable failure, which uses up an attempt. The job is tried again after the delay of its retry policy, as long
    /// as attempts are left.
    pub fn retry(error: impl fmt::Display) -> Self {
        Self::new(Kind::Retry { after: None }, &error)
    }

    /// Failure like [`HandlerError::retry`], but with `delay` (at most a year) instead of the policy's.
    pub fn retry_after(delay: Duration, error: impl fmt::Display) -> Self {
        Self::new(Kind::Retry { after: Some(delay) }, &error)
    }

    /// Permanent failure, for which trying again is useless: the job becomes a dead letter at once.
    pub fn permanent(error: impl fmt::Display) -> Self {
        Self::new(Kind::Permanent, &error)
    }

    /// Snooze, which is no failure: the job runs again after `delay` (at most a year), and no attempt is used up.
    pub fn snooze(delay: Duration, reason: impl fmt::Display) -> Self {
        Self::new(Kind::Snooze { delay }, &reason)
    }

    fn new(kind: Kind, message: &dyn fmt::Display) -> Self {
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

/// Cuts `text` to `max` bytes and replaces NUL, the one character that databases cannot store.
pub(crate) fn clean(mut text: String, max: usize) -> String {
    if text.contains('\0') {
        text = text.replace('\0', "\u{fffd}");
    }
    text.truncate(limits::cut(&text, max).len());
    text
}

/// [`Handler`] made of an async function of a typed payload.
pub(crate) struct Typed<F, Payload> {
    run: F,
    payload: PhantomData<fn(Payload)>,
}

impl<F, Payload> Typed<F, Payload> {
    pub(crate) fn new(run: F) -> Self {
        Self { run, payload: PhantomData }
    }
}

#[async_trait]
impl<F, Fut, Payload, Value> Handler for Typed<F, Payload>
where
    F: Fn(Context, Payload) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Value, HandlerError>> + Send + 'static,
    Payload: DeserializeOwned + Send + 'static,
    Value: Serialize + Send + 'static,
{
    async fn handle(&self, context: Context) -> HandlerResult {
        let payload = serde_json::from_str(context.payload_json()).map_err(|error| {
            HandlerError::permanent(format!("the payload is not what task {:?} takes: {error}", context.task()))
        })?;
        let value = (self.run)(context, payload).await?;
        Ok(Output::of(&value))
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, io};

    use super::*;
    use crate::proto::Job;

    #[test]
    fn a_result_that_cannot_be_kept_does_not_undo_the_work() {
        assert_eq!(Output::of(&()), Output::none());
        assert_eq!(Output::of(&[1, 2]).result_json, "[1,2]");
        let large = Output::of(&"x".repeat(70 * 1024));
        assert_eq!(large.note, "result of 71 KiB dropped: the limit is 64 KiB");
        assert_eq!(large.result_json, "");
        assert_eq!(Output::of(&"x".repeat(limits::RESULT - 2)).note, "");
        let map = HashMap::from([((1, 2), 3)]);
        assert!(Output::of(&map).note.starts_with("result dropped: it cannot be written as JSON"));
    }

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
        assert_eq!(error.kind, Kind::Retry { after: None });
    }

    #[test]
    fn texts_are_cut_between_characters_and_hold_no_nul() {
        assert_eq!(clean("a\0b".to_owned(), 10), "a\u{fffd}b");
        assert_eq!(clean("ééé".to_owned(), 5), "éé");
    }

    #[tokio::test]
    async fn a_payload_of_another_shape_is_a_permanent_failure_that_says_why() {
        #[derive(serde::Deserialize)]
        struct Email {
            to: String,
        }
        let handler = Typed::new(|_context: Context, email: Email| async move { Ok(email.to) });
        let job = |payload: &str| Job { task: "email".to_owned(), payload_json: payload.to_owned(), ..Job::default() };
        let error = handler.handle(Context::detached(job(r#"{"from":"a"}"#))).await.unwrap_err();
        assert_eq!(error.kind, Kind::Permanent);
        assert!(error.message.starts_with("the payload is not what task \"email\" takes: missing field `to`"));
        let output = handler.handle(Context::detached(job(r#"{"to":"a"}"#))).await.unwrap();
        assert_eq!(output, Output::json("\"a\""));
    }
}
