//! TLS to PostgreSQL, in libpq's modes.
//!
//! sqlx's own TLS trusts every public authority besides the one that `sslrootcert` names, does not verify under
//! `require` when a root is named, and never tries TLS under `allow`. Here sqlx speaks plain text to a [`Relay`] within
//! this process instead, and the relay speaks TLS.

mod relay;
mod settings;
mod verify;

pub(super) use relay::Relay;
use relay::Target;
pub(super) use settings::{Mode, Settings};
use sqlx::{
    Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};

/// Connection options, and the relay, if one is needed, which must live as long as the connections.
pub(super) struct Route {
    pub options: PgConnectOptions,
    pub relay: Option<Relay>,
}

/// Finds out whether TLS is needed, and starts a relay for it.
///
/// Under `prefer` the server is asked once, now: if it has no TLS, connections are made without a relay. Under `allow`
/// a connection without TLS is tried first. A Unix socket never has TLS.
///
/// # Errors
/// A description of an invalid or missing file that the settings name.
pub(super) async fn route(options: PgConnectOptions, settings: Settings) -> Result<Route, String> {
    let direct = options.ssl_mode(PgSslMode::Disable);
    let is_socket = direct.get_socket().is_some() || direct.get_host().starts_with('/');
    if is_socket || settings.mode == Mode::Disable {
        return Ok(Route { options: direct, relay: None });
    }
    // Errors are reported at the start rather than at each connection.
    settings.client_config()?;
    let target = Target { address: (direct.get_host().to_owned(), direct.get_port()), settings };
    let needed = match target.settings.mode {
        Mode::Allow => is_refused_without_tls(&direct).await,
        Mode::Prefer => !target.has_no_tls().await,
        _ => true,
    };
    if !needed {
        return Ok(Route { options: direct, relay: None });
    }
    let port = direct.get_port();
    let relay = Relay::start(target, port).map_err(|error| format!("cannot be reached by TLS: {error}"))?;
    Ok(Route { options: direct.socket(relay.folder()), relay: Some(relay) })
}

/// `INVALID_AUTHORIZATION_SPECIFICATION`: the answer of a server that has no rule for connections without TLS.
const REFUSED: &str = "28000";

async fn is_refused_without_tls(options: &PgConnectOptions) -> bool {
    match PgConnection::connect_with(options).await {
        Ok(connection) => {
            let _ = connection.close().await;
            false
        }
        Err(error) => error.as_database_error().is_some_and(|error| error.code().is_some_and(|code| code == REFUSED)),
    }
}
