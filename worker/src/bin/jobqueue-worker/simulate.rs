//! Built-in demonstration handler: does nothing for a while, and fails when the payload asks for it.

use std::time::Duration;

use async_trait::async_trait;
use jobqueue_worker::{Context, Handler, HandlerError, HandlerResult, Output};
use serde::Deserialize;
use serde_json::json;

const USUAL_MS: u64 = 100;

pub(crate) struct Simulate;

/// Options that a payload may set; everything else in it is ignored.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Wishes {
    sleep_ms: Option<u64>,
    fail: bool,
    /// Number of attempts that fail before one succeeds.
    fail_times: u32,
    panic: bool,
}

#[async_trait]
impl Handler for Simulate {
    async fn handle(&self, context: Context) -> HandlerResult {
        let wishes = wishes(context.payload_json())?;
        let time = Duration::from_millis(wishes.sleep_ms.unwrap_or(USUAL_MS));
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = context.cancelled() => return Err(HandlerError::retry("stopped")),
        }
        assert!(!wishes.panic, "simulated panic");
        if wishes.fail || context.attempt() <= wishes.fail_times {
            return Err(HandlerError::retry("simulated failure"));
        }
        Ok(Output::of(&json!({ "simulated": true, "attempt": context.attempt() })))
    }
}

/// Options of a payload; the defaults for a payload that is no object.
fn wishes(payload_json: &str) -> Result<Wishes, HandlerError> {
    if !payload_json.trim_start().starts_with('{') {
        return Ok(Wishes::default());
    }
    serde_json::from_str(payload_json)
        .map_err(|error| HandlerError::permanent(format!("the demonstration cannot do that: {error}")))
}

#[cfg(test)]
mod tests {
    use jobqueue_worker::Job;

    use super::*;

    async fn run(payload: &str, attempt_count: i32) -> HandlerResult {
        let job = Job { payload_json: payload.to_owned(), attempt_count, ..Job::default() };
        Simulate.handle(Context::detached(job)).await
    }

    #[tokio::test(start_paused = true)]
    async fn it_does_what_the_payload_asks_for() {
        let done = run("{\"task\":\"email\"}", 1).await.unwrap();
        assert_eq!(done, Output::json(r#"{"attempt":1,"simulated":true}"#));
        assert_eq!(run("[1]", 1).await.unwrap(), done);
        assert_eq!(run("{\"fail\": true}", 9).await.unwrap_err().to_string(), "simulated failure");
        for (attempt, succeeds) in [(1, false), (2, false), (3, true)] {
            assert_eq!(run("{\"fail_times\": 2}", attempt).await.is_ok(), succeeds, "{attempt}");
        }
        let start = tokio::time::Instant::now();
        run("{\"sleep_ms\": 500}", 1).await.unwrap();
        assert_eq!(start.elapsed().as_millis(), 500);
        assert!(run("{\"sleep_ms\": \"x\"}", 1).await.is_err());
    }

    #[tokio::test]
    #[should_panic(expected = "simulated panic")]
    async fn it_panics_when_asked_to() {
        let _ = run("{\"panic\": true}", 1).await;
    }
}
