//! Channel to the server, which connects when needed, and the deadline that every call on it carries.

use std::time::Duration;

use jobqueue_shared::connect::connector;
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint},
};

use crate::connection::{
    address::{self, BadServer},
    tls::Tls,
};

/// Time without an answer after which a connection counts as lost, where no lease expires earlier.
pub(crate) const SILENCE: Duration = Duration::from_secs(15);

/// HTTP/2 flow-control windows in bytes, which bound how much a server sends before it has to wait for the worker: a
/// whole reply on one stream, and the replies of some calls on a connection.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// Channel that connects at its first call, and again whenever the connection is lost. A peer that vanishes without
/// closing the connection is noticed after `silence`.
pub(crate) fn plain(address: &str, tls: &Tls, silence: Duration) -> Result<Channel, BadServer> {
    Ok(endpoint(address, tls, silence)?.connect_lazy())
}

/// Channel like [`plain`] that coalesces the writes of many small calls. Not for a session: a handler that blocks its
/// thread would delay what that thread was about to send, including heartbeats.
pub(crate) fn coalescing(address: &str, tls: &Tls) -> Result<Channel, BadServer> {
    Ok(endpoint(address, tls, SILENCE)?.connect_with_connector_lazy(connector(Some(TCP_KEEPALIVE))))
}

/// Endpoint of the server at `address`. Nothing is sent.
pub(crate) fn endpoint(address: &str, tls: &Tls, silence: Duration) -> Result<Endpoint, BadServer> {
    let endpoint = tls.apply(Endpoint::from(address::check(address)?)).map_err(BadServer::Tls)?;
    Ok(endpoint
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

#[cfg(test)]
mod tests {
    use jobqueue_shared::proto::v1::{GetMetricsRequest, job_service_client::JobServiceClient};

    use super::*;
    use crate::connection::status::{describe, is_away, is_unsent};

    #[tokio::test]
    async fn a_refused_connection_is_known_to_have_sent_nothing() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let channel = plain(&address, &Tls::new(), SILENCE).unwrap();
        let mut api = JobServiceClient::new(channel);
        let limit = Duration::from_secs(5);
        let status = answer(limit, api.get_metrics(request(GetMetricsRequest::default(), limit))).await.unwrap_err();
        assert!(is_unsent(&status) && is_away(&status), "{status:?}");
        assert!(describe(&status).contains("refused"), "{}", describe(&status));
        assert!(!is_unsent(&Status::unavailable("storage is away")) && is_away(&Status::unavailable("x")));
        assert!(!is_away(&Status::internal("said by the server")));
    }
}
