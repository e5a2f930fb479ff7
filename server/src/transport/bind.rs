//! Listeners, bound before anything else starts.

use std::{io, net::SocketAddr};

use anyhow::Context as _;
use tokio::net::TcpListener;

use crate::config::Serve;

/// Listeners of both addresses.
pub struct Listeners {
    pub grpc: TcpListener,
    pub http: TcpListener,
}

impl Listeners {
    pub async fn bind(config: &Serve) -> anyhow::Result<Self> {
        config.check_addresses().map_err(anyhow::Error::msg)?;
        Ok(Self {
            grpc: bind(config.grpc_addr, "--grpc-addr", "JOBQUEUE_GRPC_ADDR").await?,
            http: bind(config.http_addr, "--http-addr", "JOBQUEUE_HTTP_ADDR").await?,
        })
    }
}

async fn bind(addr: SocketAddr, flag: &str, variable: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr).await.map_err(|error| {
        if error.kind() == io::ErrorKind::AddrInUse {
            let port = addr.port();
            let any = SocketAddr::new(addr.ip(), 0);
            return anyhow::anyhow!(
                "port {port} is in use: choose another with {flag} (or {variable}), or any free one with {flag} {any}"
            );
        }
        anyhow::Error::new(error).context(format!("cannot listen on {addr} (see {flag})"))
    })
}

/// Returns the listener's address.
pub fn local_addr(listener: &TcpListener) -> anyhow::Result<SocketAddr> {
    listener.local_addr().context("a listener has no address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_named_with_the_flag_that_changes_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let message = bind(addr, "--http-addr", "JOBQUEUE_HTTP_ADDR").await.unwrap_err().to_string();
        assert!(message.contains(&addr.port().to_string()) && message.contains("--http-addr"), "{message}");
    }
}
