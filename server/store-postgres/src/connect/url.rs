//! Parser of connection URIs: reads them as libpq does, and refuses what cannot be honoured.
//!
//! sqlx ignores parameters that it does not know, and logs them with their values. Here each parameter is checked
//! first; errors name parameters, never their values, which may be secrets.

use std::{env, fmt::Write as _, net::IpAddr, str::FromStr as _};

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sqlx::postgres::PgConnectOptions;

use crate::connect::tls::Settings;

/// Parameters that sqlx understands as libpq does, besides those that are checked in [`keep`].
const KNOWN: [&str; 6] = ["application_name", "dbname", "host", "options", "password", "user"];

/// Parameters that [`Settings`] are made of, each with libpq's variable.
const TLS: [(&str, &str); 4] =
    [("sslmode", "PGSSLMODE"), ("sslrootcert", "PGSSLROOTCERT"), ("sslcert", "PGSSLCERT"), ("sslkey", "PGSSLKEY")];

/// Parameters that change nothing with these values, and are refused with all others; each with libpq's variable.
const FIXED: [(&str, &str, &[&str]); 13] = [
    ("channel_binding", "PGCHANNELBINDING", &["disable", "prefer"]),
    ("gssencmode", "PGGSSENCMODE", &["disable", "prefer"]),
    ("require_auth", "PGREQUIREAUTH", &[]),
    ("requirepeer", "PGREQUIREPEER", &[]),
    ("requiressl", "PGREQUIRESSL", &["0"]),
    ("service", "PGSERVICE", &[]),
    ("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION", &["TLSv1.3"]),
    ("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION", &["TLSv1", "TLSv1.1", "TLSv1.2"]),
    ("sslcertmode", "PGSSLCERTMODE", &["allow"]),
    ("sslcrl", "PGSSLCRL", &[]),
    ("sslcrldir", "PGSSLCRLDIR", &[]),
    ("sslnegotiation", "PGSSLNEGOTIATION", &["postgres"]),
    ("target_session_attrs", "PGTARGETSESSIONATTRS", &["any"]),
];

const SEVERAL_HOSTS: &str =
    "names several hosts, which is not supported: name one, or an address that moves on a failover";

/// Connection options from a URL and libpq's environment variables, and the TLS settings among them.
pub(crate) fn parse(url: &str) -> Result<(PgConnectOptions, Settings), String> {
    parse_in(url, |name| env::var(name).ok().filter(|value| !value.is_empty()))
}

/// Parses a URL in an environment: `variable` returns the value of a variable that is set.
fn parse_in(url: &str, variable: impl Fn(&str) -> Option<String>) -> Result<(PgConnectOptions, Settings), String> {
    check_environment(&variable)?;
    let mut parameters = parameters(url)?;
    if parameters.iter().all(|(name, _)| name != "hostaddr")
        && let Some(address) = variable("PGHOSTADDR")
    {
        // Added here, because sqlx takes it for a host, which gives way to the one in the URL.
        address.parse::<IpAddr>().map_err(|_| "the variable PGHOSTADDR is not an IP address")?;
        parameters.push(("hostaddr".into(), address));
    }
    let of_tls: Vec<_> = parameters.extract_if(.., |(name, _)| TLS.iter().any(|(tls, _)| tls == name)).collect();
    let options = PgConnectOptions::from_str(&canonical(&parameters)).map_err(|_| "cannot be read".to_owned())?;
    let last = |wanted: &str| parameters.iter().rev().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    let options = if last("application_name").is_some() { options } else { options.application_name("jobqueue") };
    // Host that the server's certificate has to be for, whatever address `hostaddr` names.
    let host = last("host").or_else(|| variable("PGHOST")).unwrap_or_else(|| options.get_host().to_owned());
    let source = |wanted: &str| {
        let given = of_tls.iter().rev().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
        given.or_else(|| TLS.iter().find(|(name, _)| *name == wanted).and_then(|(_, name)| variable(name)))
    };
    // By the account where HOME is not set, as libpq finds it.
    let defaults = env::home_dir().map(|home| home.join(".postgresql"));
    let settings = Settings::new(&source, &host, defaults.as_deref())?;
    Ok((options, settings))
}

fn check_environment(variable: impl Fn(&str) -> Option<String>) -> Result<(), String> {
    for (parameter, name, _) in FIXED {
        if let Some(value) = variable(name) {
            fixed(&format!("the variable {name}"), parameter, &value)?;
        }
    }
    Ok(())
}

/// Parameters of a URL, including its authority and path, in the order in which later ones win.
fn parameters(url: &str) -> Result<Vec<(String, String)>, String> {
    let rest = ["postgres://", "postgresql://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    let rest = rest.ok_or("must start with postgres:// or postgresql://")?;
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = place.split_once('/').unwrap_or((place, ""));
    let mut found = Vec::new();
    let mut add = |name: &str, text: &str| -> Result<(), String> {
        if !text.is_empty() {
            keep(&mut found, name, decoded(name, text)?)?;
        }
        Ok(())
    };
    let (user, address) = authority.split_once('@').map_or((None, authority), |(user, address)| (Some(user), address));
    if address.contains('@') {
        return Err("has an @ in its user or password: write it as %40".into());
    }
    if let Some((user, password)) = user.map(|user| user.split_once(':').unwrap_or((user, ""))) {
        add("user", user)?;
        add("password", password)?;
    }
    if address.contains(',') {
        return Err(SEVERAL_HOSTS.into());
    }
    let (host, port) = split_address(address)?;
    add("host", host)?;
    add("port", port)?;
    add("dbname", database)?;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or("has a parameter without a value")?;
        let name = decoded("a parameter's name", name)?;
        let value = decoded(&name_only(&name), value)?;
        keep(&mut found, &name, value)?;
    }
    // `hostaddr` is the address to connect to, so it comes last and wins over `host`.
    found.sort_by_key(|(name, _)| name == "hostaddr");
    Ok(found)
}

/// Splits an address into host and port. An IPv6 address stands in brackets.
fn split_address(address: &str) -> Result<(&str, &str), String> {
    let Some(rest) = address.strip_prefix('[') else { return Ok(address.split_once(':').unwrap_or((address, ""))) };
    let (host, rest) = rest.split_once(']').ok_or("has a [ without its ]")?;
    let port = if rest.is_empty() { Some("") } else { rest.strip_prefix(':') };
    Ok((host, port.ok_or("has something other than a port behind its ]")?))
}

fn keep(found: &mut Vec<(String, String)>, name: &str, value: String) -> Result<(), String> {
    let what = format!("the parameter {}", name_only(name));
    match name {
        "host" | "hostaddr" | "port" if value.contains(',') => return Err(SEVERAL_HOSTS.into()),
        "hostaddr" if value.parse::<IpAddr>().is_err() => return Err(format!("{what} is not an IP address")),
        "port" if value.parse::<u16>().is_err() => return Err("has a port that is not a number up to 65535".into()),
        "hostaddr" | "port" => {}
        _ if KNOWN.contains(&name) || TLS.iter().any(|(tls, _)| *tls == name) => {}
        _ if FIXED.iter().any(|(fixed, ..)| *fixed == name) => return fixed(&what, name, &value),
        _ => return Err(format!("{what} is not supported")),
    }
    found.push((name.to_owned(), value));
    Ok(())
}

fn fixed(what: &str, parameter: &str, value: &str) -> Result<(), String> {
    let allowed = FIXED.iter().find(|(name, ..)| *name == parameter).map_or(&[][..], |(.., allowed)| *allowed);
    if allowed.contains(&value) {
        return Ok(());
    }
    let supported = if allowed.is_empty() { "nothing".to_owned() } else { allowed.join(", ") };
    Err(format!("{what} asks for what is not supported; supported: {supported}"))
}

/// A parameter's name, if it can be shown in an error. A name that is no plain word may be part of a secret, such as a
/// password with a raw `&`.
fn name_only(name: &str) -> String {
    let plain = !name.is_empty() && name.len() <= 40 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if plain { name.to_owned() } else { "with a name that is no plain word".to_owned() }
}

fn decoded(what: &str, text: &str) -> Result<String, String> {
    let hex = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
    if text.bytes().enumerate().any(|(at, byte)| byte == b'%' && !(hex(at + 1) && hex(at + 2))) {
        return Err(format!("has a % without two hexadecimal digits in {what}: write a plain % as %25"));
    }
    match percent_decode_str(text).decode_utf8() {
        Ok(text) if !text.contains('\0') => Ok(text.into_owned()),
        _ => Err(format!("has bytes that are no text in {what}")),
    }
}

fn canonical(parameters: &[(String, String)]) -> String {
    let mut url = "postgres:///?".to_owned();
    for (name, value) in parameters {
        let _ = write!(url, "{name}={}&", utf8_percent_encode(value, NON_ALPHANUMERIC));
    }
    url.truncate(url.len() - 1);
    url
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::tls::Mode;

    #[test]
    fn every_form_of_url_that_psql_takes_is_read() {
        for (url, host, port, user, database) in [
            ("postgres://postgres@[::1]:5701/db", "::1", 5701, "postgres", "db"),
            ("postgresql://u@[fe80::1]/db", "fe80::1", 5432, "u", "db"),
            ("postgres://u:p@h:5433/db", "h", 5433, "u", "db"),
            ("postgres://h/db?user=u", "h", 5432, "u", "db"),
            ("postgres://u@/db?host=h&port=7", "h", 7, "u", "db"),
            ("postgres://u@:7/db?host=h", "h", 7, "u", "db"),
            ("postgres://?host=h&user=u&dbname=db", "h", 5432, "u", "db"),
            ("postgres://u%40x:a%2Fb%25@h/d%20b", "h", 5432, "u@x", "d b"),
            ("postgres://h?user=a+b&dbname=db", "h", 5432, "a+b", "db"),
            ("postgres://u@h/db?hostaddr=127.0.0.1", "127.0.0.1", 5432, "u", "db"),
            ("postgres://u@h/db?hostaddr=127.0.0.1&host=x", "127.0.0.1", 5432, "u", "db"),
            ("postgres://u@h/db?sslmode=disable&channel_binding=prefer&target_session_attrs=any", "h", 5432, "u", "db"),
        ] {
            let (options, _) = parse(url).unwrap_or_else(|error| panic!("{url} {error}"));
            let read = (options.get_host(), options.get_username(), options.get_database());
            assert_eq!(read, (host, user, Some(database)), "{url}");
            if url.contains(&port.to_string()) {
                assert_eq!(options.get_port(), port, "{url}");
            }
        }
        for url in [
            "postgres://u@%2Fvar%2Frun%2Fpg/db",
            "postgres://u@/db?host=/var/run/pg",
            "postgres:///db?host=/var/run/pg",
        ] {
            let socket = parse(url).unwrap().0.get_socket().cloned();
            assert_eq!(socket, Some("/var/run/pg".into()), "{url}");
        }
    }

    #[test]
    fn the_host_to_verify_is_the_one_that_is_named_wherever_it_is() {
        for (url, address, host) in [
            ("postgres://u@h/db?hostaddr=127.0.0.1", "127.0.0.1", "h"),
            ("postgres://u@/db?hostaddr=127.0.0.1&host=x", "127.0.0.1", "x"),
            ("postgres://u@h/db", "h", "h"),
            ("postgres://u@[::1]/db", "::1", "::1"),
        ] {
            let (options, settings) = parse(url).unwrap();
            assert_eq!((options.get_host(), settings.host.as_str()), (address, host), "{url}");
        }
        let (_, settings) = parse("postgres://u@h/db?sslmode=require&sslmode=disable").unwrap();
        assert_eq!(settings.mode, Mode::Disable);
    }

    #[test]
    fn the_address_in_the_environment_is_connected_to_beside_a_host_in_the_url() {
        let environment = |name: &str| (name == "PGHOSTADDR").then(|| "127.0.0.9".to_owned());
        let (options, settings) = parse_in("postgres://u@h/db", environment).unwrap();
        assert_eq!((options.get_host(), settings.host.as_str()), ("127.0.0.9", "h"));
        let (options, _) = parse_in("postgres://u@h/db?hostaddr=127.0.0.1", environment).unwrap();
        assert_eq!(options.get_host(), "127.0.0.1");
        let wrong = |name: &str| (name == "PGHOSTADDR").then(|| "s3cret".to_owned());
        let error = parse_in("postgres://u@h/db", wrong).unwrap_err();
        assert_eq!(error, "the variable PGHOSTADDR is not an IP address");
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name_and_without_its_value() {
        for (url, says) in [
            ("postgres://h/db?secret_key=s3cret", "the parameter secret_key is not supported"),
            ("postgres://h/db?connect_timeout=s3cret", "the parameter connect_timeout is not supported"),
            (
                "postgres://h/db?password=x&s3cret%21=y",
                "the parameter with a name that is no plain word is not supported",
            ),
            ("postgres://h/db?s3cret", "a parameter without a value"),
            ("postgres://h/db?channel_binding=require", "the parameter channel_binding asks for what is not supported"),
            ("postgres://h/db?target_session_attrs=s3cret", "target_session_attrs asks for what is not supported"),
            ("postgres://h/db?sslcrl=s3cret", "sslcrl asks for what is not supported; supported: nothing"),
            ("postgres://h/db?ssl_min_protocol_version=TLSv1.3", "supported: TLSv1, TLSv1.1, TLSv1.2"),
            ("postgres://h/db?sslmode=verify-full", "need sslrootcert"),
            ("postgres://h/db?sslmode=s3cret", "sslmode is none of disable"),
            ("postgres://u@h1:1,h2:2/db", "several hosts"),
            ("postgres://u@/db?host=h1,h2", "several hosts"),
            ("postgres://u:s3cret@x@h/db", "write it as %40"),
            ("postgres://u:s3cret%zz@h/db", "without two hexadecimal digits in password"),
            ("postgres://u:%ff@h/db", "no text in password"),
            ("postgres://h:s3cret/db", "a port that is not a number"),
            ("postgres://[::1/db", "without its ]"),
            ("postgres://[::1]x/db", "behind its ]"),
            ("postgres://h/db?hostaddr=s3cret", "hostaddr is not an IP address"),
        ] {
            let error = parse(url).unwrap_err();
            assert!(error.contains(says) && !error.contains("s3cret"), "{url}: {error}");
        }
    }

    #[test]
    fn variables_of_libpq_are_never_honoured_less_than_asked() {
        let with =
            |name: &'static str, value: &'static str| check_environment(|it| (it == name).then(|| value.to_owned()));
        for (name, value) in [
            ("PGREQUIRESSL", "1"),
            ("PGSERVICE", "s"),
            ("PGSSLCRL", "f"),
            ("PGREQUIREAUTH", "none"),
            ("PGCHANNELBINDING", "require"),
        ] {
            assert!(with(name, value).unwrap_err().contains(name), "{name}={value}");
        }
        for (name, value) in [("PGCHANNELBINDING", "prefer"), ("HOME", "/")] {
            assert_eq!(with(name, value), Ok(()), "{name}={value}");
        }
    }
}
