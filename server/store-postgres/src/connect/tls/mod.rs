//! TLS to PostgreSQL, in libpq's modes.
//!
//! sqlx's own TLS trusts every public authority besides the one that `sslrootcert` names, does not verify under
//! `require` when a root is named, and never tries TLS under `allow`. Here sqlx speaks plain text to a [`Relay`] within
//! this process instead, and the relay speaks TLS.

mod relay;
mod settings;
mod verify;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

pub(crate) use crate::connect::tls::relay::Relay;
use crate::connect::tls::relay::Target;
pub(crate) use crate::connect::tls::settings::{Mode, Settings};

/// Connection options, and the relay, if one is needed, which must live as long as the connections.
pub(crate) struct Route {
    pub options: PgConnectOptions,
    pub relay: Option<Relay>,
}

/// Finds out whether TLS is needed, and starts a relay for it.
///
/// Under `prefer`, the default, the server is asked once, now: if it says that it has no TLS, connections are made without
/// a relay, which would cost each message a detour. A Unix socket never has TLS.
///
/// # Errors
/// A description of an invalid or missing file that the settings name.
pub(crate) async fn route(options: PgConnectOptions, settings: Settings) -> Result<Route, String> {
    let direct = options.ssl_mode(PgSslMode::Disable);
    let is_socket = direct.get_socket().is_some() || direct.get_host().starts_with('/');
    if is_socket || settings.mode == Mode::Disable {
        return Ok(Route { options: direct, relay: None });
    }
    // Errors are reported at the start rather than at each connection.
    settings.client_config()?;
    let target = Target { address: (direct.get_host().to_owned(), direct.get_port()), settings };
    if target.settings.mode == Mode::Prefer && target.has_no_tls().await {
        return Ok(Route { options: direct, relay: None });
    }
    let port = direct.get_port();
    let relay = Relay::start(target, port).map_err(|error| format!("cannot be reached by TLS: {error}"))?;
    Ok(Route { options: direct.socket(relay.folder()), relay: Some(relay) })
}
