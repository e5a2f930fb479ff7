//! Repetition of a call while the server is away or busy.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use tonic::{Request, Response, Status};
use tonic_types::StatusExt as _;

use crate::connection::{channel, status};

/// Condition under which a failed call is repeated.
#[derive(Clone, Copy)]
pub(crate) enum Repeat {
    /// The server is away or busy. Only for calls that may be carried out twice.
    WhileAway,
    /// Nothing was done: the call could not be sent, or the server was too busy to begin.
    WhileNothingDone,
    Never,
}

impl Repeat {
    fn applies(self, failure: &Status) -> bool {
        match self {
            Self::WhileAway => status::is_away(failure) || status::is_busy(failure),
            Self::WhileNothingDone => status::is_unsent(failure) || status::is_busy(failure),
            Self::Never => false,
        }
    }
}

/// Makes a call, and repeats it for about 30 s as long as `repeat` applies to its failure. Each try has the time limit
/// `limit`.
pub(crate) async fn call<Message, Reply, Fut>(
    repeat: Repeat,
    limit: Duration,
    message: Message,
    send: impl Fn(Request<Message>) -> Fut,
) -> Result<Reply, Status>
where
    Message: Clone,
    Fut: Future<Output = Result<Response<Reply>, Status>>,
{
    let once = || channel::answer(limit, send(channel::request(message.clone(), limit)));
    let pauses = ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(2))
        .with_jitter()
        .without_max_times()
        .with_total_delay(Some(Duration::from_secs(30)));
    once.retry(pauses)
        .when(|failure| repeat.applies(failure))
        .adjust(|failure, pause| {
            let asked = failure.get_details_retry_info().and_then(|info| info.retry_delay);
            pause.map(|pause| asked.map_or(pause, |asked| asked.clamp(pause, Duration::from_secs(30))))
        })
        .await
}
