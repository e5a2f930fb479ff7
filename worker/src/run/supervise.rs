//! Run of one handler to its end: it returns, panics, or is dropped some time after it was told to stop.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    task::Poll,
    time::Duration,
};

use crate::handlers::{
    context::Context,
    handler::{Handler, HandlerResult},
    stop::StopReason,
};

/// Time that a handler has to return after it was told to stop, before it is dropped. Longer than the 5 s between
/// SIGTERM and SIGKILL that a command gets.
pub(crate) const STOP_TIME: Duration = Duration::from_secs(7);

/// End of a handler's run.
pub(crate) enum HandlerEnd {
    Returned(HandlerResult),
    /// With the text of the panic.
    Panicked(String),
    /// The handler went on after it was told to stop, and was dropped.
    Dropped,
}

/// Runs a handler to its end, or until it has been told to stop and [`STOP_TIME`] has passed. A handler that blocks its
/// thread keeps its slot until it yields.
pub(crate) async fn supervise(handler: &dyn Handler, context: &Context) -> HandlerEnd {
    let mut handling = handler.handle(context.clone());
    // A panic ends the attempt and not the worker.
    let mut ended =
        std::future::poll_fn(|task| match catch_unwind(AssertUnwindSafe(|| handling.as_mut().poll(task))) {
            Ok(polled) => polled.map(HandlerEnd::Returned),
            Err(payload) => Poll::Ready(HandlerEnd::Panicked(panic_text(payload.as_ref()))),
        });
    let time_is_up = async {
        match context.ends() {
            Some(ends) => tokio::time::sleep_until(ends).await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        biased;
        ended = &mut ended => ended,
        reason = async {
            tokio::select! {
                () = context.cancelled() => None,
                () = time_is_up => Some(StopReason::TimedOut),
            }
        } => {
            if let Some(reason) = reason {
                context.stop().because(reason);
            }
            tokio::time::timeout(STOP_TIME, &mut ended).await.unwrap_or(HandlerEnd::Dropped)
        }
    };
    // Dropping the handler's future may panic as well.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(handling)));
    ended
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("panic: {}", text.unwrap_or("(no text)"))
}

#[cfg(test)]
mod tests {
    use jobqueue_shared::proto::v1::Job;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_caught_with_its_text() {
        struct Panics;
        #[async_trait::async_trait]
        impl Handler for Panics {
            async fn handle(&self, context: Context) -> HandlerResult {
                panic!("attempt {}", context.attempt());
            }
        }
        let job = Job { attempt_count: 2, ..Job::default() };
        let ended = supervise(&Panics, &Context::detached(job)).await;
        assert!(matches!(ended, HandlerEnd::Panicked(text) if text == "panic: attempt 2"));
        assert_eq!(panic_text(&7), "panic: (no text)");
    }
}
