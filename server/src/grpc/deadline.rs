//! `grpc-timeout`: a call ends with DEADLINE_EXCEEDED, and a long poll ends before it.

use std::time::Duration;

use axum::extract::Request;
use http::HeaderMap;
use tokio::time::{Instant, timeout_at};

/// Time at which the caller stops waiting; an extension of requests that have a `grpc-timeout`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(pub Instant);

/// Margin before the caller's own deadline, so that the answer still reaches it.
const EARLY: Duration = Duration::from_millis(2);

/// Time at which a call ends: the request's deadline, which is also added to its extensions, but at most `longest` from
/// now.
pub(super) fn observe(request: &mut Request, longest: Duration) -> Instant {
    let now = Instant::now();
    let Some(timeout) = grpc_timeout(request.headers()) else { return now + longest };
    let deadline = now + timeout.saturating_sub(EARLY.min(timeout / 2));
    request.extensions_mut().insert(Deadline(deadline));
    deadline.min(now + longest)
}

/// Runs a call until `deadline`; `None` if that comes first.
pub(super) async fn within<T>(deadline: Instant, call: impl Future<Output = T>) -> Option<T> {
    timeout_at(deadline, call).await.ok()
}

/// Parses `grpc-timeout`: at most eight digits and a unit (gRPC protocol over HTTP/2). A malformed one is ignored.
fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    let value = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3_600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<Duration> {
        grpc_timeout(&HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), text.parse().unwrap())]))
    }

    #[test]
    fn timeouts_are_read_as_the_protocol_writes_them() {
        assert_eq!(parsed("10S"), Some(Duration::from_secs(10)));
        assert_eq!(parsed("99999999H"), Some(Duration::from_hours(99_999_999)));
        assert_eq!(parsed("1500m"), Some(Duration::from_millis(1_500)));
        assert_eq!(parsed("7u"), Some(Duration::from_micros(7)));
        for wrong in ["", "S", "1", "1s", "-1S", "999999999S", "1.5S"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }
}
