//! Handler that runs a job by posting its payload to a URL.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use async_trait::async_trait;
use jobqueue_worker::{Context, Handler, HandlerError, HandlerResult};
use reqwest::{
    Client, Response, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER},
};

use crate::{
    http::{answer, connect},
    shortage,
};

/// Time limit of an attempt of a job that sets no `attempt_timeout`, unless --attempt-timeout is given.
pub(crate) const ATTEMPT_TIMEOUT: Duration = Duration::from_mins(5);

pub(crate) struct Http {
    client: Client,
    /// Client that opens a new connection for each request.
    once: Client,
    url: Url,
    attempt_timeout: Option<Duration>,
}

impl Http {
    /// Handler that posts to `url`, whose certificate comes from an authority in `ca` (PEM), or else from one that the
    /// system trusts; `attempt_timeout` applies to jobs that set none.
    pub(crate) fn new(url: Url, ca: Option<&[u8]>, attempt_timeout: Option<Duration>) -> anyhow::Result<Self> {
        // An error means that a provider is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = connect::client(&url, ca)?.build().context("cannot set up an HTTP client")?;
        let once = connect::client_once(&url, ca)?.build().context("cannot set up an HTTP client")?;
        Ok(Self { client, once, url, attempt_timeout })
    }

    async fn post(&self, context: &Context) -> HandlerResult {
        let sent = match self.send(&self.client, context).await {
            // An endpoint may close a kept connection just as a request is sent on it, so the request is repeated on a
            // new one. The endpoint may have carried it out; the Idempotency-Key lets it tell.
            Err(error) if broke_before_answer(&error) => self.send(&self.once, context).await,
            sent => sent,
        };
        let response = sent.map_err(|error| {
            // The URL may hold a password.
            let error = error.without_url();
            let shortage = if error.is_connect() { shortage::snooze("cannot connect", &error) } else { None };
            shortage.unwrap_or_else(|| error.into())
        })?;
        let status = response.status();
        let pause = response.headers().get(RETRY_AFTER).and_then(|value| answer::retry_after(value, SystemTime::now()));
        let body = answer::read_body(response).await;
        answer::verdict(status, pause, body)
    }

    async fn send(&self, client: &Client, context: &Context) -> reqwest::Result<Response> {
        client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .headers(facts(context))
            .body(context.payload_json().to_owned())
            .send()
            .await
    }
}

/// True when the connection was made, and broke before an answer came.
fn broke_before_answer(error: &reqwest::Error) -> bool {
    error.is_request() && !error.is_connect() && !error.is_timeout()
}

#[async_trait]
impl Handler for Http {
    fn default_attempt_timeout(&self) -> Option<Duration> {
        self.attempt_timeout
    }

    async fn handle(&self, context: Context) -> HandlerResult {
        tokio::select! {
            result = self.post(&context) => result,
            () = context.cancelled() => Err(HandlerError::retry("stopped, without an answer")),
        }
    }
}

/// Headers that describe the job. The Idempotency-Key is the same for every attempt, so that the endpoint can recognize
/// work that it has already done.
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

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::IntoFuture as _};

    use axum::{Router, body::Body, extract::Request, http::header, response::IntoResponse, routing::post};
    use jobqueue_worker::{Job, Output, StopReason};
    use reqwest::StatusCode;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    async fn serve(router: Router) -> Http {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, router).into_future());
        Http::new(url.parse().unwrap(), None, None).unwrap()
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
        let error = Http::new(url.parse().unwrap(), None, None).unwrap().handle(self::context()).await.unwrap_err();
        assert!(format!("{error:?}").contains("Retry") && !error.to_string().contains("secret"), "{error:?}");
        assert!(error.to_string().contains("refused"), "{error}");
    }

    /// Reads a request, and returns its Idempotency-Key; `None` when the connection was closed.
    async fn request(stream: &mut TcpStream) -> Option<String> {
        let mut read = Vec::new();
        while !read.ends_with(b"{\"to\":\"a\"}") {
            if stream.read_buf(&mut read).await.unwrap() == 0 {
                return None;
            }
        }
        let text = String::from_utf8(read).unwrap();
        let key = text.lines().find_map(|line| line.strip_prefix("idempotency-key: ")).unwrap();
        Some(key.to_owned())
    }

    #[tokio::test]
    async fn a_kept_connection_that_closes_as_a_request_comes_is_replaced_within_the_attempt() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http =
            Http::new(format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap(), None, None).unwrap();
        let endpoint = async {
            let (mut first, _) = listener.accept().await.unwrap();
            let mut keys = vec![request(&mut first).await.unwrap()];
            first.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1").await.unwrap();
            keys.push(request(&mut first).await.expect("the connection is kept"));
            drop(first);
            let (mut second, _) = listener.accept().await.unwrap();
            keys.push(request(&mut second).await.unwrap());
            second.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n2").await.unwrap();
            // A request is repeated only once: the third and the fourth connection are closed without an answer.
            let (third, _) = listener.accept().await.unwrap();
            drop(third);
            let (fourth, _) = listener.accept().await.unwrap();
            drop(fourth);
            keys
        };
        let worker = async {
            let results = [http.handle(context()).await.unwrap(), http.handle(context()).await.unwrap()];
            assert_eq!(results, [Output::json("1"), Output::json("2")]);
            assert!(format!("{:?}", http.handle(context()).await.unwrap_err()).contains("Retry"));
        };
        let (keys, ()) = tokio::join!(endpoint, worker);
        assert_eq!(keys, ["0192f5a6"; 3]);
    }
}
