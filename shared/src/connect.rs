//! How programs connect to a server.

use std::time::Duration;

use hyper_util::{
    client::legacy::connect::{HttpConnector, dns::GaiResolver},
    rt::TokioIo,
};
use tokio::net::TcpStream;
use tower::util::MapResponse;

use crate::gather::Gathered;

/// Makes connections for a channel of tonic, which gather what is written.
pub type Connector = MapResponse<HttpConnector<GaiResolver>, fn(TokioIo<TcpStream>) -> TokioIo<Gathered<TcpStream>>>;

/// After `keepalive` of silence the kernel asks whether the other side is still there.
pub fn connector(keepalive: Option<Duration>) -> Connector {
    let mut connector = HttpConnector::new();
    // Calls are small and waited for.
    connector.set_nodelay(true);
    connector.set_keepalive(keepalive);
    MapResponse::new(connector, |stream| TokioIo::new(Gathered::new(stream.into_inner())))
}
