//! Addresses of the dashboard's pages, as its router has them: at any other address there is no page.

/// Routes of `frontend/src/app.rs`; a segment that begins with a colon stands for any text. The test below fails when
/// a route is missing here.
const ROUTES: [&str; 14] = [
    "/",
    "/jobs",
    "/jobs/:id",
    "/errors",
    "/errors/:id",
    "/dead-letters",
    "/queues",
    "/queues/:id",
    "/workers",
    "/workers/:id",
    "/operations",
    "/operations/new",
    "/operations/:id",
    "/submit",
];

/// Whether the dashboard has a page at this path. As for its router, a slash at the end makes no difference.
pub(super) fn is_page(path: &str) -> bool {
    ROUTES.iter().any(|route| fits(route, path))
}

fn fits(route: &str, path: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut segments = path.split('/');
    let all_fit = route.trim_end_matches('/').split('/').all(|wanted| {
        segments.next().is_some_and(|found| if wanted.starts_with(':') { !found.is_empty() } else { found == wanted })
    });
    all_fit && segments.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_knows_every_route_of_the_frontend_and_no_other() {
        let app = include_str!("../../../frontend/src/app.rs");
        let routes: Vec<&str> =
            app.split("path!(\"").skip(1).filter_map(|rest| rest.split_once('"')).map(|(route, _)| route).collect();
        assert_eq!(routes.len(), app.matches("<Route ").count(), "every route's path is a literal");
        assert_eq!(routes, ROUTES);
    }

    #[test]
    fn a_path_is_a_page_when_a_route_fits_all_of_it() {
        for path in ["/", "/jobs", "/jobs/", "/jobs/0192f5a6", "/jobs/%20", "/queues/~2E", "/workers/x/", "/submit"] {
            assert!(is_page(path), "{path}");
        }
        for path in ["//", "/job", "/jobs//", "/jobs/a/b", "/Jobs", "/submit/x", "/dead-letters/x", "/index.php"] {
            assert!(!is_page(path), "{path}");
        }
    }
}
