//! HTTP clients for the URL of a task: connections, proxies, certificates.

use std::{net::IpAddr, time::Duration};

use anyhow::Context as _;
use reqwest::{Certificate, Client, ClientBuilder, Url, redirect::Policy};

/// Client for requests to `url`, which keeps idle connections. Authorities in `ca` (PEM) are trusted instead of those of
/// the system.
pub(crate) fn client(url: &Url, ca: Option<&[u8]>) -> anyhow::Result<ClientBuilder> {
    let mut client = Client::builder()
        .user_agent(concat!("jobqueue-worker/", env!("CARGO_PKG_VERSION")))
        // A followed redirect would turn the POST into a GET, or send the payload to a host that nobody configured.
        .redirect(Policy::none())
        .connect_timeout(Duration::from_secs(10))
        .tcp_keepalive(Duration::from_secs(30));
    if url.scheme() == "http" {
        // Plain HTTP needs no certificates, and has to work on a machine that has none.
        client = client.tls_certs_only([]);
    } else if let Some(ca) = ca {
        let authorities = Certificate::from_pem_bundle(ca).context("--http-ca")?;
        anyhow::ensure!(!authorities.is_empty(), "--http-ca: there is no certificate in it");
        client = client.tls_certs_only(authorities);
    }
    if is_loopback(url) {
        // A proxy would resolve a loopback address to its own machine.
        client = client.no_proxy();
    }
    Ok(client)
}

/// Client that keeps no connection alive, so that each of its requests opens a new one.
pub(crate) fn client_once(url: &Url, ca: Option<&[u8]>) -> anyhow::Result<ClientBuilder> {
    Ok(client(url, ca)?.pool_max_idle_per_host(0))
}

/// True when the URL's host can only be this machine: a loopback or unspecified address, or localhost.
fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    if let Ok(ip) = host.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        return ip.is_loopback() || ip.is_unspecified();
    }
    let host = host.to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_stands_before_this_machine() {
        for url in [
            "http://127.0.0.1:9/",
            "http://127.9.9.9/",
            "http://[::1]:9/",
            "http://[::ffff:127.0.0.1]/",
            "http://LocalHost/",
            "http://a.localhost/",
        ] {
            assert!(is_loopback(&url.parse().unwrap()), "{url}");
        }
        for url in ["http://10.0.0.1/", "http://example.com/", "http://localhost.example.com/", "http://[fe80::1]/"] {
            assert!(!is_loopback(&url.parse().unwrap()), "{url}");
        }
    }
}
