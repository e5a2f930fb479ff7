//! Protection against requests that pages of other sites make with a visitor's browser.
//!
//! Two kinds are refused: requests from another origin (by `Sec-Fetch-Site` and `Origin`), and DNS rebinding, where the
//! other site's own name resolves to this machine, so that the browser takes it for the same origin. Programs other
//! than browsers send neither of these headers, so that the first check does not affect them.

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
    grpc::is_grpc,
};

/// Layer that refuses requests that change something and come from an origin that is not allowed.
pub fn cross_site(origins: &[Origin]) -> anyhow::Result<CsrfLayer> {
    origins.iter().try_fold(CsrfLayer::new(), |layer, origin| {
        layer.add_trusted_origin(origin.as_str()).with_context(|| format!("--cors-origin {}", origin.as_str()))
    })
}

/// Host names under which browsers may reach this server. The name of another site may resolve to any address that it
/// listens on.
#[derive(Clone, Debug)]
pub struct Hosts {
    /// Hosts, with the port if it is not the scheme's default, as in an origin.
    authorities: Vec<String>,
    /// Hosts that are allowed on any port.
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
        // Another site cannot own an IP address as its name.
        host.parse::<IpAddr>().is_ok()
            || host.eq_ignore_ascii_case("localhost")
            || host.to_ascii_lowercase().ends_with(".localhost")
            || self.names.iter().any(|it| it.eq_ignore_ascii_case(host))
    }
}

/// Middleware that refuses requests for a host that is not one of `hosts`.
pub async fn rebinding(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    // Browsers have no plain-text HTTP/2, so this comes from a program, which may use any name.
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
