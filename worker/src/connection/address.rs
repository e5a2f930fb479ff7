//! Address of a server, checked before anything connects.

use http::Uri;

/// Reason why a server cannot be reached by its settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadServer {
    #[error("{address:?} is no address of a server: {problem}; it looks like http://127.0.0.1:50051")]
    Address { address: String, problem: String },
    #[error("TLS: {0}")]
    Tls(String),
}

/// Parses `address`, which has to be `http://host:port` or `https://host:port` without a path or a query.
pub(crate) fn check(address: &str) -> Result<Uri, BadServer> {
    let wrong = |problem: String| BadServer::Address { address: address.to_owned(), problem };
    let uri: Uri = address.parse().map_err(|error: http::uri::InvalidUri| wrong(error.to_string()))?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(other) => return Err(wrong(format!("the scheme is {other:?}"))),
        None => return Err(wrong("it does not begin with http:// or https://".to_owned())),
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(wrong("the host is missing".to_owned()));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(wrong("a path does not belong there".to_owned()));
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_before_anything_connects() {
        for good in ["http://127.0.0.1:50051", "http://[::1]:50051/", "http://queue.internal", "https://queue:50051"] {
            check(good).unwrap();
        }
        for (bad, problem) in [
            ("127.0.0.1:50051", "begin with http://"),
            ("ftp://queue", "\"ftp\""),
            ("http://queue/api", "path"),
            ("http://a b", "invalid"),
            ("", "empty"),
        ] {
            let error = check(bad).unwrap_err().to_string();
            assert!(error.contains(problem), "{bad}: {error}");
        }
    }
}
