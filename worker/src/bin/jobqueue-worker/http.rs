//! Runs a job by posting its payload to a URL.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use async_trait::async_trait;
use jobqueue_worker::{Context, Handler, HandlerError, HandlerResult, Output, limits};
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER},
    redirect::Policy,
};

use crate::capture::Head;

pub(crate) struct Http {
    client: Client,
    url: Url,
}

impl Http {
    pub(crate) fn new(url: Url) -> anyhow::Result<Self> {
        // Fails when one is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = Client::builder();
        if url.scheme() == "http" {
            // A machine without CA certificates can still call plain HTTP.
            client = client.tls_certs_only([]);
        }
        let client = client
            .user_agent(concat!("jobqueue-worker/", env!("CARGO_PKG_VERSION")))
            // A redirected POST would arrive as a GET, or somewhere that nobody named.
            .redirect(Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .tcp_keepalive(Duration::from_secs(30))
            .build()
            .context("cannot set up an HTTP client")?;
        Ok(Self { client, url })
    }

    async fn post(&self, context: &Context) -> HandlerResult {
        let mut request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .headers(facts(context))
            .body(context.payload_json().to_owned());
        if let Some(remaining) = context.remaining() {
            request = request.timeout(remaining);
        }
        // The URL may hold a password.
        let response = request.send().await.map_err(reqwest::Error::without_url)?;
        let status = response.status();
        let pause = response.headers().get(RETRY_AFTER).and_then(|value| retry_after(value, SystemTime::now()));
        let body = read(response).await;
        verdict(status, pause, body)
    }
}

#[async_trait]
impl Handler for Http {
    async fn handle(&self, context: Context) -> HandlerResult {
        tokio::select! {
            result = self.post(&context) => result,
            () = context.cancelled() => Err(HandlerError::retry("stopped, without an answer")),
        }
    }
}

/// The same key for every attempt: whoever has done the work already can tell.
fn facts(context: &Context) -> HeaderMap {
    let job = context.job();
    let mut headers = HeaderMap::new();
    let mut add = |name: &'static str, value: String| {
        // Names and ids are UTF-8 without control characters, which a header takes as opaque bytes.
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            headers.insert(name, value);
        }
    };
    add("idempotency-key", context.job_id().to_owned());
    add("jobqueue-job-id", context.job_id().to_owned());
    add("jobqueue-task", context.task().to_owned());
    add("jobqueue-worker-id", context.worker_id().to_owned());
    add("jobqueue-attempt", context.attempt().to_string());
    add("jobqueue-max-retries", context.max_retries().to_string());
    add("jobqueue-priority", job.priority.to_string());
    if let Some(created_at) = job.created_at {
        add("jobqueue-created-at", created_at.to_string());
    }
    if let Some(deadline) = context.deadline() {
        add("jobqueue-deadline", deadline.to_string());
    }
    headers
}

/// What came of the body; the second is why it is not complete.
async fn read(mut response: Response) -> (Head, Option<String>) {
    let mut head = Head::default();
    loop {
        match response.chunk().await {
            Ok(Some(_)) if head.is_full() => return (head, None),
            Ok(Some(chunk)) => head.push(&chunk),
            Ok(None) => return (head, None),
            Err(error) => return (head, Some(error.without_url().to_string())),
        }
    }
}

fn verdict(status: StatusCode, pause: Option<Duration>, (body, broken): (Head, Option<String>)) -> HandlerResult {
    if status.is_success() {
        // The status has said that the work is done.
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

/// Seconds or a date (RFC 9110, 10.2.3), at most a year; a date that has passed is no pause.
fn retry_after(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
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
    use std::{convert::Infallible, future::IntoFuture as _};

    use axum::{Router, body::Body, extract::Request, http::header, response::IntoResponse, routing::post};
    use jobqueue_worker::{Job, StopReason};
    use tokio::net::TcpListener;

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

    async fn serve(router: Router) -> Http {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, router).into_future());
        Http::new(url.parse().unwrap()).unwrap()
    }

    fn context() -> Context {
        Context::detached(Job {
            id: "0192f5a6".to_owned(),
            worker_id: "wörker".to_owned(),
            task: "email".to_owned(),
            payload_json: r#"{"to":"a"}"#.to_owned(),
            attempt_count: 2,
            max_retries: 5,
            priority: 5,
            ..Job::default()
        })
    }

    #[tokio::test]
    async fn the_payload_is_posted_with_the_facts_in_headers() {
        async fn echo(request: Request) -> String {
            let headers = request.headers();
            let names = ["content-type", "idempotency-key", "jobqueue-task", "jobqueue-attempt", "jobqueue-worker-id"];
            let facts = names.map(|name| String::from_utf8_lossy(headers[name].as_bytes()).into_owned());
            let body = axum::body::to_bytes(request.into_body(), 1_000).await.unwrap();
            format!("{} {}", facts.join(" "), String::from_utf8_lossy(&body))
        }
        let http = serve(Router::new().route("/", post(echo))).await;
        let expected = Output::of(&"application/json 0192f5a6 email 2 wörker {\"to\":\"a\"}");
        assert_eq!(http.handle(context()).await.unwrap(), expected);
    }

    #[tokio::test]
    async fn a_busy_endpoint_says_when_to_come_back() {
        let busy = (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "7")], "full");
        let http = serve(Router::new().route("/", post(move || async move { busy.into_response() }))).await;
        let error = http.handle(context()).await.unwrap_err();
        let expected = HandlerError::retry_after(Duration::from_secs(7), "HTTP 503 Service Unavailable: full");
        assert_eq!(format!("{error:?}"), format!("{expected:?}"));
    }

    #[tokio::test]
    async fn a_body_without_end_is_not_read_to_the_end() {
        let endless = || async {
            let chunks = futures::stream::repeat_with(|| Ok::<_, Infallible>(vec![b'x'; 64 * 1024]));
            Body::from_stream(chunks)
        };
        let http = serve(Router::new().route("/", post(endless))).await;
        let output = http.handle(context()).await.unwrap();
        assert!(format!("{output:?}").contains("dropped: the limit is 64 KiB"), "{output:?}");
    }

    #[tokio::test]
    async fn nobody_there_is_tried_again_and_a_stop_ends_the_wait() {
        let http = serve(Router::new().route("/", post(std::future::pending::<()>))).await;
        let context = context();
        context.cancel(StopReason::Cancelled);
        assert_eq!(http.handle(context).await.unwrap_err().to_string(), "stopped, without an answer");

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://user:secret@{}/", listener.local_addr().unwrap());
        drop(listener);
        let error = Http::new(url.parse().unwrap()).unwrap().handle(self::context()).await.unwrap_err();
        assert!(format!("{error:?}").contains("Retry") && !error.to_string().contains("secret"), "{error:?}");
        assert!(error.to_string().contains("refused"), "{error}");
    }
}
