//! Serves the dashboard's files: compressed ahead of time, revalidated by ETag, immutable if their name has a hash.

mod files;
mod routes;

use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

pub use self::files::Files;

/// Encodings in order of preference, each with the extension of the compressed file.
const ENCODINGS: [(&str, &str); 2] = [("br", ".br"), ("gzip", ".gz")];
const INDEX: &str = "index.html";
const FOREVER: &str = "public, max-age=31536000, immutable";
const REVALIDATE: &str = "no-cache";

/// Answers GET and HEAD of a file or, to a browser that navigates to any other path, of the dashboard's page; where the
/// dashboard has no page, that answer's status is 404, and the page says so.
pub fn serve(files: &Files, request: &Request) -> Response {
    answer(request.method(), request.uri().path(), request.headers(), files)
}

fn answer(method: &Method, path: &str, headers: &HeaderMap, files: &Files) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return not_found();
    }
    let mut name = path.trim_start_matches('/');
    let mut status = StatusCode::OK;
    if name.is_empty() {
        name = INDEX;
    } else if (name == INDEX || files.get(name).is_none()) && wants_html(headers) {
        name = INDEX;
        status = if routes::is_page(path) { StatusCode::OK } else { StatusCode::NOT_FOUND };
    }
    let Some(plain) = files.get(name) else { return not_found() };
    let (asset, encoding) = ENCODINGS
        .into_iter()
        .filter(|(encoding, _)| accepts(headers, encoding))
        .find_map(|(encoding, ending)| files.get(&format!("{name}{ending}")).map(|twin| (twin, Some(encoding))))
        .unwrap_or((plain, None));
    let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(&asset.sha256[..16]));
    let mut response = status.into_response();
    let out = response.headers_mut();
    let mut put = |name, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            out.insert(name, value);
        }
    };
    put(header::ETAG, &etag);
    put(header::CACHE_CONTROL, if is_hashed(name) { FOREVER } else { REVALIDATE });
    put(header::VARY, "accept-encoding");
    // A browser that has the page all the same must be told that this address has none.
    if status == StatusCode::OK && headers.get(header::IF_NONE_MATCH).is_some_and(|it| matches(it, &etag)) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    put(header::CONTENT_TYPE, &with_charset(&plain.mime));
    put(header::CONTENT_LENGTH, &asset.bytes.len().to_string());
    if let Some(encoding) = encoding {
        put(header::CONTENT_ENCODING, encoding);
    }
    if method == Method::GET {
        *response.body_mut() = Body::from(asset.bytes.clone());
    }
    response
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "not found\n").into_response()
}

/// Whether the request is a browser's navigation. Requests of scripts, and of most programs, do not accept HTML.
fn wants_html(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).and_then(|it| it.to_str().ok()).is_some_and(|it| it.contains("text/html"))
}

/// Whether `encoding` is in Accept-Encoding, by name or by `*`, and not with q=0.
fn accepts(headers: &HeaderMap, encoding: &str) -> bool {
    let (mut by_name, mut by_star) = (None, None);
    let all = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|it| it.to_str().ok());
    for item in all.flat_map(|it| it.split(',')) {
        let mut parts = item.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let refused = parts
            .filter_map(|it| it.strip_prefix("q=").or_else(|| it.strip_prefix("Q=")))
            .any(|q| q.trim().parse::<f32>().is_ok_and(|q| q <= 0.0));
        if name.eq_ignore_ascii_case(encoding) {
            by_name = Some(!refused);
        } else if name == "*" {
            by_star = Some(!refused);
        }
    }
    by_name.or(by_star).unwrap_or(false)
}

/// Whether If-None-Match has the ETag. The comparison is weak: W/ is ignored.
fn matches(if_none_match: &HeaderValue, etag: &str) -> bool {
    if_none_match
        .to_str()
        .is_ok_and(|it| it.split(',').map(str::trim).any(|it| it == "*" || it.trim_start_matches("W/") == etag))
}

/// Whether a file name has a hash of its content, as trunk adds it: `name-0123456789abcdef.js`,
/// `name-0123456789abcdef_bg.wasm`.
fn is_hashed(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    let stem = file.split('.').next().unwrap_or(file);
    let stem = stem.strip_suffix("_bg").unwrap_or(stem);
    stem.rsplit_once('-').is_some_and(|(before, hash)| {
        !before.is_empty()
            && hash.len() >= 8
            && hash.bytes().all(|it| it.is_ascii_digit() || (b'a'..=b'f').contains(&it))
    })
}

fn with_charset(mime: &str) -> String {
    if mime.starts_with("text/") && !mime.contains("charset") { format!("{mime}; charset=utf-8") } else { mime.into() }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn dist() -> Files {
        Files::of(&[
            ("index.html", b"page"),
            ("index.html.br", b"br of page"),
            ("index.html.gz", b"gz of page"),
            ("app-0123456789abcdef_bg.wasm", b"wasm"),
            ("app-0123456789abcdef_bg.wasm.gz", b"gz of wasm"),
            ("favicon.svg", b"icon"),
        ])
    }

    fn ask(method: &Method, path: &str, headers: &[(HeaderName, &str)]) -> Response {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        answer(method, path, &headers, &dist())
    }

    fn get(path: &str, headers: &[(HeaderName, &str)]) -> Response {
        ask(&Method::GET, path, headers)
    }

    fn is<'a>(response: &'a Response, name: &HeaderName) -> &'a str {
        response.headers().get(name).map_or("", |it| it.to_str().unwrap())
    }

    async fn body(response: Response) -> String {
        String::from_utf8(axum::body::to_bytes(response.into_body(), 1_000).await.unwrap().into()).unwrap()
    }

    #[tokio::test]
    async fn the_best_encoding_that_exists_and_is_wanted_is_sent() {
        for (path, accepted, encoding, text) in [
            ("/", "gzip, deflate, br", "br", "br of page"),
            ("/", "gzip", "gzip", "gz of page"),
            ("/", "br;q=0, gzip;q=0.5", "gzip", "gz of page"),
            ("/", "*", "br", "br of page"),
            ("/", "*;q=0", "", "page"),
            ("/", "br;q=0, *;q=0.1", "gzip", "gz of page"),
            ("/", "identity", "", "page"),
            ("/app-0123456789abcdef_bg.wasm", "br, gzip", "gzip", "gz of wasm"),
            ("/favicon.svg", "br, gzip", "", "icon"),
        ] {
            let response = get(path, &[(header::ACCEPT_ENCODING, accepted)]);
            assert_eq!(is(&response, &header::CONTENT_ENCODING), encoding, "{path} {accepted}");
            assert_eq!(is(&response, &header::VARY), "accept-encoding");
            assert_eq!(is(&response, &header::CONTENT_LENGTH), text.len().to_string());
            assert_eq!(body(response).await, text, "{path} {accepted}");
        }
        let plain = get("/", &[]);
        assert_eq!(is(&plain, &header::CONTENT_TYPE), "text/html; charset=utf-8");
        assert_eq!(body(plain).await, "page");
    }

    #[tokio::test]
    async fn an_etag_saves_the_body_and_differs_by_encoding() {
        let first = get("/", &[(header::ACCEPT_ENCODING, "br")]);
        let etag = is(&first, &header::ETAG).to_owned();
        assert_ne!(etag, is(&get("/", &[]), &header::ETAG));
        for known in [etag.clone(), format!("\"x\", W/{etag}"), "*".to_owned()] {
            let again = get("/", &[(header::ACCEPT_ENCODING, "br"), (header::IF_NONE_MATCH, &known)]);
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!(is(&again, &header::ETAG), etag);
            assert_eq!(body(again).await, "");
        }
        assert_eq!(get("/", &[(header::IF_NONE_MATCH, &etag)]).status(), StatusCode::OK);
    }

    #[test]
    fn only_names_with_a_hash_are_kept_for_ever() {
        for name in ["app-0123456789abcdef.js", "app-0123456789abcdef_bg.wasm", "a/b-c-01234567.css"] {
            assert!(is_hashed(name), "{name}");
        }
        for name in ["index.html", "favicon.svg", "app-latest.js", "-0123456789abcdef.js", "app-0123456.js"] {
            assert!(!is_hashed(name), "{name}");
        }
        assert_eq!(is(&get("/app-0123456789abcdef_bg.wasm", &[]), &header::CACHE_CONTROL), FOREVER);
        assert_eq!(is(&get("/", &[]), &header::CACHE_CONTROL), REVALIDATE);
    }

    #[tokio::test]
    async fn only_a_browser_that_navigates_gets_the_page_for_an_unknown_address() {
        let html = [(header::ACCEPT, "text/html,application/xhtml+xml,*/*;q=0.8")];
        assert_eq!(body(get("/jobs/0192", &html)).await, "page");
        for (method, headers) in [
            (Method::GET, &[(header::ACCEPT, "*/*")][..]),
            (Method::GET, &[]),
            (Method::POST, &html),
            (Method::OPTIONS, &html),
        ] {
            let response = ask(&method, "/jobs/0192", headers);
            assert_eq!(response.status(), StatusCode::NOT_FOUND, "{method}");
        }
        let etag = is(&get("/", &html), &header::ETAG).to_owned();
        for (path, status) in [
            ("/", StatusCode::OK),
            ("/jobs/0192", StatusCode::OK),
            ("/dead-letters", StatusCode::OK),
            ("/nothing", StatusCode::NOT_FOUND),
            ("/index.html", StatusCode::NOT_FOUND),
            ("/jobs/0192/x", StatusCode::NOT_FOUND),
        ] {
            let response = get(path, &html);
            assert_eq!(response.status(), status, "{path}");
            assert_eq!(is(&response, &header::CONTENT_TYPE), "text/html; charset=utf-8", "{path}");
            assert_eq!(body(response).await, "page", "{path}");
            let known = get(path, &[html[0].clone(), (header::IF_NONE_MATCH, &etag)]);
            assert_eq!(known.status() == StatusCode::NOT_MODIFIED, status == StatusCode::OK, "{path}");
        }
        let head = ask(&Method::HEAD, "/", &html);
        assert_eq!(is(&head, &header::CONTENT_LENGTH), "4");
        assert_eq!(body(head).await, "");
    }
}
