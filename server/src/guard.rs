//! Keeps pages of other sites from using a browser to reach this server.
//!
//! Two ways in are shut: a request from another origin (by `Sec-Fetch-Site` and `Origin`), and DNS rebinding, where
//! the other site's own name leads to this machine, so that to the browser it is the same origin. Programs other
//! than browsers send neither header and are not concerned.

use std::net::IpAddr;

use anyhow::Context as _;
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{StatusCode, Version, header, uri::Authority};
use tower_http::csrf::CsrfLayer;

use crate::{
    config::{HostName, Origin, Serve},
    router::is_grpc,
};

/// Refuses requests that change something and come from another origin, unless it is named.
pub fn cross_site(origins: &[Origin]) -> anyhow::Result<CsrfLayer> {
    origins.iter().try_fold(CsrfLayer::new(), |layer, origin| {
        layer.add_trusted_origin(origin.as_str()).with_context(|| format!("--cors-origin {}", origin.as_str()))
    })
}

/// Names under which browsers reach this server. Wherever it listens, the name of another site may lead to it.
#[derive(Clone, Debug)]
pub struct Hosts {
    /// Host, and port if it is not the scheme's, as in an origin.
    authorities: Vec<String>,
    /// Hosts on any port.
    names: Vec<String>,
}

impl Hosts {
    pub fn new(config: &Serve) -> Self {
        let own = gethostname::gethostname().into_string().ok().and_then(|it| it.parse::<HostName>().ok());
        Self {
            authorities: config.cors_origins.iter().map(|it| it.authority().to_owned()).collect(),
            names: config.http_hosts.iter().chain(&own).map(|it| it.as_str().to_owned()).collect(),
        }
    }

    fn allow(&self, authority: &str) -> bool {
        if self.authorities.iter().any(|it| it.eq_ignore_ascii_case(authority)) {
            return true;
        }
        let Ok(parsed) = authority.parse::<Authority>() else { return false };
        let host = parsed.host().trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        // An address is no name, so that no other site can make it its own.
        host.parse::<IpAddr>().is_ok()
            || host.eq_ignore_ascii_case("localhost")
            || host.to_ascii_lowercase().ends_with(".localhost")
            || self.names.iter().any(|it| it.eq_ignore_ascii_case(host))
    }
}

/// Refuses requests for a host that is not this one's.
pub async fn rebinding(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    // A browser cannot send these: it has no plain-text HTTP/2. Programs may use any name they like.
    if request.version() == Version::HTTP_2 && is_grpc(request.headers()) {
        return next.run(request).await;
    }
    let host = request.headers().get(header::HOST).and_then(|it| it.to_str().ok());
    let authority = request.uri().authority().map(Authority::as_str).or(host);
    match authority {
        Some(authority) if !hosts.allow(authority) => {
            let text = "this server is reached as localhost, by an IP address, by its machine's name, or by a name given \
                        with --http-host or --cors-origin\n";
            (StatusCode::MISDIRECTED_REQUEST, text).into_response()
        }
        _ => next.run(request).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_nobody_else_can_own_lead_here() {
        let hosts = Hosts { authorities: vec!["tools.example.com".into()], names: vec!["jobs.example.com".into()] };
        for host in [
            "localhost:8080",
            "LOCALHOST",
            "127.0.0.1:8080",
            "[::1]:8080",
            "10.1.2.3:8080",
            "a.localhost",
            "tools.example.com",
            "jobs.example.com",
            "Jobs.Example.com:8080",
        ] {
            assert!(hosts.allow(host), "{host}");
        }
        for host in [
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "jobs.example.com.evil.example",
            "tools.example.com:1",
            "",
        ] {
            assert!(!hosts.allow(host), "{host}");
        }
    }
}
