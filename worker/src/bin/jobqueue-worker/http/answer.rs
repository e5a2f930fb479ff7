//! Meaning of an endpoint's answer for its job: status, Retry-After, and body.

use std::time::{Duration, SystemTime};

use jobqueue_worker::{HandlerError, HandlerResult, Output, limits};
use reqwest::{Response, StatusCode, header::HeaderValue};

use crate::capture::Head;

/// Maximum pause between two chunks of a response's body. Its head may take as long as the attempt, because the
/// endpoint does the work before it answers.
const BODY_PAUSE: Duration = Duration::from_secs(30);

/// Reads a response's body, up to the limit of its capture. The second value is the reason why the body is incomplete.
pub(crate) async fn read_body(mut response: Response) -> (Head, Option<String>) {
    let mut head = Head::default();
    loop {
        let Ok(chunk) = tokio::time::timeout(BODY_PAUSE, response.chunk()).await else {
            return (head, Some(format!("nothing more of the body came for {BODY_PAUSE:?}")));
        };
        match chunk {
            Ok(Some(_)) if head.is_full() => return (head, None),
            Ok(Some(chunk)) => head.push(&chunk),
            Ok(None) => return (head, None),
            Err(error) => return (head, Some(error.without_url().to_string())),
        }
    }
}

/// Result of a job whose endpoint answered with `status`; `pause` is what its Retry-After header asks for.
pub(crate) fn verdict(
    status: StatusCode,
    pause: Option<Duration>,
    (body, broken): (Head, Option<String>),
) -> HandlerResult {
    if status.is_success() {
        // A 2xx status says that the work is done, even when the body is cut off.
        return Ok(match broken {
            None => body.into_output(),
            Some(error) => Output::none().note(format!("result dropped: {error}")),
        });
    }
    let redirect = if status.is_redirection() { " (redirects are not followed)" } else { "" };
    let body = body.text();
    let colon = if body.is_empty() { "" } else { ": " };
    let text = format!("HTTP {status}{redirect}{colon}{body}");
    let again = status.is_server_error()
        || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS);
    Err(match (again, pause) {
        (true, Some(pause)) => HandlerError::retry_after(pause, text),
        (true, None) => HandlerError::retry(text),
        (false, _) => HandlerError::permanent(text),
    })
}

/// Pause that a Retry-After header asks for: seconds or a date (RFC 9110, 10.2.3), at most a year; zero for a date that
/// has passed.
pub(crate) fn retry_after(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    let pause = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default()
    };
    Some(pause.min(Duration::from_millis(limits::DELAY_MS as u64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> HeaderValue {
        HeaderValue::from_str(text).unwrap()
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let seconds = |text: &str| retry_after(&value(text), now).map(|pause| pause.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:48:37 GMT"), Some(0));
        assert_eq!(seconds("99999999999999999999999"), Some(365 * 24 * 3_600));
        for bad in ["", "-5", "soon", "1.5"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn each_status_has_one_meaning() {
        let kind = |code| match verdict(StatusCode::from_u16(code).unwrap(), None, (Head::default(), None)) {
            Ok(_) => "done",
            Err(error) if format!("{error:?}").contains("Permanent") => "permanent",
            Err(_) => "retry",
        };
        for code in [200, 201, 202, 204] {
            assert_eq!(kind(code), "done", "{code}");
        }
        for code in [408, 425, 429, 500, 502, 503, 504] {
            assert_eq!(kind(code), "retry", "{code}");
        }
        for code in [301, 302, 304, 307, 400, 401, 404, 409, 422] {
            assert_eq!(kind(code), "permanent", "{code}");
        }
    }
}
