//! UpdateErrorGroup: what people decide about error groups.

use jobqueue_shared::{limits, proto::v1};
use jobqueue_store::{ErrorGroup, ErrorGroupChange, ErrorWindow, NewErrorGroupState};

use crate::queue::{
    error::{Error, Result},
    handle::Queue,
    observe::error_group_id,
    validate::{Violations, storable},
};

impl Queue {
    pub async fn update_error_group(&self, request: v1::UpdateErrorGroupRequest) -> Result<ErrorGroup> {
        let mut violations = Violations::default();
        let id = error_group_id(&request.id, &mut violations);
        let state = state(&request, self.context.clock.now_ms(), &mut violations);
        if let Some(note) = &request.note {
            violations.length("note", note, limits::NOTE);
        }
        if let Some(link) = &request.link {
            check_link(link, &mut violations);
        }
        violations.finish()?;
        let note = request.note.map(|note| storable(note, limits::NOTE));
        let change = ErrorGroupChange { state, note, link: request.link };
        if !self.context.store.update_error_group(id, &change).await? {
            return Err(Error::NoErrorGroup(id));
        }
        let found = self.context.store.error_group(id, ErrorWindow::Day).await?;
        found.map(|found| found.group).ok_or(Error::NoErrorGroup(id))
    }
}

fn state(
    request: &v1::UpdateErrorGroupRequest,
    now_ms: i64,
    violations: &mut Violations,
) -> Option<NewErrorGroupState> {
    let state = v1::error_group::State::try_from(request.state);
    if state != Ok(v1::error_group::State::Ignored) {
        for (field, given) in
            [("ignore_until", request.ignore_until.is_some()), ("ignore_attempts", request.ignore_attempts.is_some())]
        {
            if given {
                violations.add(field, "can only be given with state 2 (ignored)");
            }
        }
    }
    match state {
        Ok(v1::error_group::State::Unspecified) => None,
        Ok(v1::error_group::State::Open) => Some(NewErrorGroupState::Open),
        Ok(v1::error_group::State::Resolved) => Some(NewErrorGroupState::Resolved),
        Ok(v1::error_group::State::Ignored) => {
            let until_ms = request.ignore_until.map(|until| {
                violations.timestamp_ms("ignore_until", until, now_ms + limits::DELAY_MS, "at most a year ahead")
            });
            let attempts = request.ignore_attempts.map(|given| {
                let max = i64::from(limits::IGNORED_ATTEMPTS);
                if !(1..=max).contains(&given) {
                    violations.add("ignore_attempts", format!("is {given}; it must be from 1 to {max}"));
                }
                given.unsigned_abs()
            });
            Some(NewErrorGroupState::Ignored { until_ms, attempts })
        }
        Ok(v1::error_group::State::Regressed) => {
            violations.add("state", "cannot be set to 4 (regressed): a resolved group becomes so when it fails again");
            None
        }
        Err(_) => {
            violations.add("state", format!("is {}, which is no state; it can be 1, 2 or 3", request.state));
            None
        }
    }
}

/// Checks a link: people follow it from the dashboard, so that nothing but a web page may be behind it.
fn check_link(link: &str, violations: &mut Violations) {
    violations.length("link", link, limits::LINK);
    if link.is_empty() {
        return;
    }
    let uri = link.parse::<http::Uri>().ok();
    let scheme = uri.as_ref().and_then(http::Uri::scheme_str);
    let host = uri.as_ref().and_then(http::Uri::host).is_some_and(|host| !host.is_empty());
    if !matches!(scheme, Some("http" | "https")) || !host {
        violations.add("link", "must be a URL that begins with http:// or https://, or empty");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_link(text: &str) -> bool {
        let mut violations = Violations::default();
        check_link(text, &mut violations);
        violations.is_empty()
    }

    #[test]
    fn links_are_web_pages() {
        for link in ["", "https://example.org/issues/7?a=b", "http://10.0.0.1:80/", "https://example.org"] {
            assert!(is_link(link), "{link}");
        }
        let long = format!("https://example.org/{}", "x".repeat(limits::LINK));
        for link in [
            "javascript:alert(1)",
            "example.org",
            "/path",
            "ftp://example.org",
            "https://",
            "http://a b",
            "data:,x",
            &long,
        ] {
            assert!(!is_link(link), "{link}");
        }
    }

    #[test]
    fn only_what_a_person_can_decide_is_accepted() {
        let decided = |request: v1::UpdateErrorGroupRequest| {
            let mut violations = Violations::default();
            let state = state(&request, 0, &mut violations);
            violations.is_empty().then_some(state)
        };
        let request = |state: i32| v1::UpdateErrorGroupRequest { state, ..Default::default() };
        assert_eq!(decided(request(0)), Some(None));
        assert_eq!(decided(request(3)), Some(Some(NewErrorGroupState::Resolved)));
        let ignored = v1::UpdateErrorGroupRequest { ignore_attempts: Some(5), ..request(2) };
        let expected = NewErrorGroupState::Ignored { until_ms: None, attempts: Some(5) };
        assert_eq!(decided(ignored), Some(Some(expected)));
        assert_eq!(decided(request(4)), None);
        assert_eq!(decided(request(9)), None);
        assert_eq!(decided(v1::UpdateErrorGroupRequest { ignore_attempts: Some(0), ..request(2) }), None);
        assert_eq!(decided(v1::UpdateErrorGroupRequest { ignore_attempts: Some(5), ..request(3) }), None);
    }
}
