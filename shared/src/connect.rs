//! Client connections to a server.

use std::time::Duration;

use hyper_util::{
    client::legacy::connect::{HttpConnector, dns::GaiResolver},
    rt::TokioIo,
};
use tokio::net::TcpStream;
use tower::util::MapResponse;

use crate::write_coalescing::CoalescedWrites;

/// Connector for a tonic channel; its connections coalesce writes.
pub type Connector =
    MapResponse<HttpConnector<GaiResolver>, fn(TokioIo<TcpStream>) -> TokioIo<CoalescedWrites<TcpStream>>>;

/// Makes a connector. After `keepalive` without traffic the kernel probes whether the other side is still there.
pub fn connector(keepalive: Option<Duration>) -> Connector {
    let mut connector = HttpConnector::new();
    // The channel makes TLS on the stream for an https:// address.
    connector.enforce_http(false);
    // Calls are small, and their callers wait for them.
    connector.set_nodelay(true);
    connector.set_keepalive(keepalive);
    MapResponse::new(connector, |stream| TokioIo::new(CoalescedWrites::new(stream.into_inner())))
}
