//! Connection to the server, and the deadline that every call on it carries.

use std::{error::Error as _, fmt::Write as _, time::Duration};

use http::Uri;
use jobqueue_shared::connect::connector;
use tonic::{
    Code, ConnectError, Request, Response, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

/// Reason why an address cannot be a server's.
#[derive(Debug, thiserror::Error)]
#[error("{address:?} is no address of a server: {problem}; it looks like http://127.0.0.1:50051")]
pub(crate) struct BadAddress {
    address: String,
    problem: String,
}

/// Parses `address`, which has to be `http://host:port` without a path or a query.
pub(crate) fn check(address: &str) -> Result<Uri, BadAddress> {
    let wrong = |problem: String| BadAddress { address: address.to_owned(), problem };
    let uri: Uri = address.parse().map_err(|error: http::uri::InvalidUri| wrong(error.to_string()))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => return Err(wrong("https is not supported".to_owned())),
        Some(other) => return Err(wrong(format!("the scheme is {other:?}"))),
        None => return Err(wrong("it does not begin with http://".to_owned())),
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(wrong("the host is missing".to_owned()));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(wrong("a path does not belong there".to_owned()));
    }
    Ok(uri)
}

/// Time without an answer after which a connection counts as lost, where no lease expires earlier.
pub(crate) const SILENCE: Duration = Duration::from_secs(15);

/// HTTP/2 flow-control windows in bytes, which bound how much a server sends before it has to wait for the worker: a
/// whole reply on one stream, and the replies of some calls on a connection.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// Channel that connects at its first call, and again whenever the connection is lost. A peer that vanishes without
/// closing the connection is noticed after `silence`.
pub(crate) fn plain(address: &str, silence: Duration) -> Result<Channel, BadAddress> {
    Ok(endpoint(address, silence)?.connect_lazy())
}

/// Channel like [`lazy`] that coalesces the writes of many small calls. Not for a session: a handler that blocks its
/// thread would delay what that thread was about to send, including heartbeats.
pub(crate) fn coalescing(address: &str) -> Result<Channel, BadAddress> {
    Ok(endpoint(address, SILENCE)?.connect_with_connector_lazy(connector(Some(TCP_KEEPALIVE))))
}

fn endpoint(address: &str, silence: Duration) -> Result<Endpoint, BadAddress> {
    Ok(Endpoint::from(check(address)?)
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        .tcp_keepalive(Some(TCP_KEEPALIVE))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(silence * 2 / 3)
        .keep_alive_timeout(silence / 3)
        .keep_alive_while_idle(true))
}

/// Maximum size of a reply in bytes. The server's replies are smaller: they end at 3 MiB of payload.
pub(crate) const REPLY_BYTES: usize = 16 * 1024 * 1024;

/// Request with `message`, and `limit` as its grpc-timeout.
pub(crate) fn request<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

/// Awaits the answer to a call made with [`request`] for at most `limit`, because the channel's own limit does not
/// include the time that connecting takes.
pub(crate) async fn answer<T>(
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer.map(Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded(format!("no answer within {limit:?}"))),
    }
}

/// True when the connection could not be made, so that nothing of the call was sent.
pub(crate) fn is_unsent(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// True when the server was away or went away during the call. It is unknown whether it carried the call out.
pub(crate) fn is_away(status: &Status) -> bool {
    // A status with a source was made on this side, because of a broken connection.
    status.code() == Code::Unavailable
        || (matches!(status.code(), Code::Unknown | Code::Internal | Code::Cancelled) && status.source().is_some())
}

/// True when the server refused the call before it did anything, and says when to come back (RetryInfo).
pub(crate) fn is_busy(status: &Status) -> bool {
    status.code() == Code::ResourceExhausted && status.get_details_retry_info().is_some()
}

/// Text of a status for people: the code, the message and the root cause.
pub(crate) fn describe(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let mut source = status.source();
    let mut first = None;
    while let Some(error) = source {
        first = Some(error);
        source = error.source();
    }
    if let Some(first) = first.map(ToString::to_string).filter(|first| !text.contains(first)) {
        let _ = write!(text, " ({first})");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_before_anything_connects() {
        for good in ["http://127.0.0.1:50051", "http://[::1]:50051/", "http://queue.internal"] {
            check(good).unwrap();
        }
        for (bad, problem) in [
            ("127.0.0.1:50051", "begin with http://"),
            ("https://queue", "https is not supported"),
            ("ftp://queue", "\"ftp\""),
            ("http://queue/api", "path"),
            ("http://a b", "invalid"),
            ("", "empty"),
        ] {
            let error = check(bad).unwrap_err().to_string();
            assert!(error.contains(problem), "{bad}: {error}");
        }
    }

    #[tokio::test]
    async fn a_refused_connection_is_known_to_have_sent_nothing() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let channel = plain(&address, SILENCE).unwrap();
        let mut api = jobqueue_shared::proto::v1::job_service_client::JobServiceClient::new(channel);
        let limit = Duration::from_secs(5);
        let message = jobqueue_shared::proto::v1::GetMetricsRequest::default();
        let status = answer(limit, api.get_metrics(request(message, limit))).await.unwrap_err();
        assert!(is_unsent(&status) && is_away(&status), "{status:?}");
        assert!(describe(&status).contains("refused"), "{}", describe(&status));
        assert!(!is_unsent(&Status::unavailable("storage is away")) && is_away(&Status::unavailable("x")));
        assert!(!is_away(&Status::internal("said by the server")));
    }
}
