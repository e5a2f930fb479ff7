//! Handler of jobs: the trait, and its implementation by an async function.

use std::{marker::PhantomData, time::Duration};

use async_trait::async_trait;
use serde::{Serialize, de::DeserializeOwned};

use crate::handlers::{context::Context, handler_error::HandlerError, output::Output};

pub type HandlerResult = Result<Output, HandlerError>;

/// Handler of the jobs of one task. Most handlers are async functions given to [`WorkerBuilder::handler`]; this trait
/// is for those that need the payload as it was submitted, or choose their task at run time.
///
/// Its future may be dropped at any await once the job's [`Context`] was cancelled and a few seconds have passed.
///
/// A handler must not block its thread: while all threads of the runtime are blocked, no outcome is sent, no job
/// starts, and no handler learns that it has to stop. Give blocking work to [`tokio::task::spawn_blocking`], which has
/// threads of its own. Heartbeats come from a separate thread, so no job is lost meanwhile, and the worker logs a
/// warning.
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
    use jobqueue_shared::proto::v1::Job;

    use super::*;
    use crate::handlers::handler_error::FailureKind;

    #[tokio::test]
    async fn a_payload_of_another_shape_is_a_permanent_failure_that_says_why() {
        #[derive(serde::Deserialize)]
        struct Email {
            to: String,
        }
        let handler = Typed::new(|_context: Context, email: Email| async move { Ok(email.to) });
        let job = |payload: &str| Job { task: "email".to_owned(), payload_json: payload.to_owned(), ..Job::default() };
        let error = handler.handle(Context::detached(job(r#"{"from":"a"}"#))).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Permanent);
        assert!(error.message.starts_with("the payload is not what task \"email\" takes: missing field `to`"));
        let output = handler.handle(Context::detached(job(r#"{"to":"a"}"#))).await.unwrap();
        assert_eq!(output, Output::json("\"a\""));
    }
}
