//! ListErrorGroups and GetErrorGroup.

use jobqueue_shared::{limits, proto::v1};
use jobqueue_store::{
    ErrorGroupDetails, ErrorGroupId, ErrorGroupPage, ErrorGroupQuery, ErrorGroupState, ErrorOrder, ErrorWindow,
};

use super::page_token;
use crate::queue::{
    error::{Error, Result},
    handle::Queue,
    validate::Violations,
};

/// A page of error groups, for the window that was asked for.
pub struct ErrorGroups {
    pub page: ErrorGroupPage,
    pub window: ErrorWindow,
    pub next_page_token: String,
}

impl Queue {
    pub async fn error_groups(&self, request: v1::ListErrorGroupsRequest) -> Result<ErrorGroups> {
        let mut violations = Violations::default();
        violations.name("worker_id", &request.worker_id, limits::WORKER_ID);
        let states: Vec<_> = request.states.iter().filter_map(|given| state(*given, &mut violations)).collect();
        let order = match v1::list_error_groups_request::Order::try_from(request.order) {
            Ok(v1::list_error_groups_request::Order::LastSeen) => ErrorOrder::LastSeen,
            Ok(v1::list_error_groups_request::Order::Attempts) => ErrorOrder::Attempts,
            Ok(v1::list_error_groups_request::Order::DeadLetters) => ErrorOrder::DeadLetters,
            Err(_) => {
                violations.add("order", format!("is {}, which is no order; it can be 0, 1 or 2", request.order));
                ErrorOrder::LastSeen
            }
        };
        let window = window(request.window, &mut violations);
        let page_size = page_size(request.page_size, &mut violations);
        let list = format!("error_groups/{}/{states:?}/{order:?}/{window:?}", request.worker_id);
        let after = match request.page_token.as_str() {
            "" => None,
            token => page_token::place(&list, token).map_err(|wrong| violations.add("page_token", wrong)).ok(),
        };
        violations.finish()?;
        let worker_id = (!request.worker_id.is_empty()).then_some(request.worker_id);
        let query = ErrorGroupQuery { worker_id, states, order, window, page_size, after };
        let page = self.context.store.error_groups(&query).await?;
        let next_page_token = page.next.map_or_else(String::new, |next| page_token::token(&list, &next));
        Ok(ErrorGroups { page, window, next_page_token })
    }

    pub async fn error_group(&self, request: &v1::GetErrorGroupRequest) -> Result<(ErrorWindow, ErrorGroupDetails)> {
        let mut violations = Violations::default();
        let id = error_group_id(&request.id, &mut violations);
        let window = window(request.window, &mut violations);
        violations.finish()?;
        let found = self.context.store.error_group(id, window).await?;
        found.map(|found| (window, found)).ok_or(Error::NoErrorGroup(id))
    }
}

fn page_size(given: i32, violations: &mut Violations) -> u32 {
    match violations.integer("page_size", given, 0..=limits::ERROR_GROUPS_PAGE_MAX) {
        0 => limits::ERROR_GROUPS_PAGE_DEFAULT,
        size => size,
    }
}

pub(in crate::queue) fn error_group_id(text: &str, violations: &mut Violations) -> ErrorGroupId {
    text.parse().unwrap_or_else(|wrong| {
        violations.add("id", if text.is_empty() { "must be given" } else { wrong });
        ErrorGroupId::OTHER
    })
}

fn state(given: i32, violations: &mut Violations) -> Option<ErrorGroupState> {
    match v1::error_group::State::try_from(given) {
        Ok(v1::error_group::State::Open) => Some(ErrorGroupState::Open),
        Ok(v1::error_group::State::Ignored) => Some(ErrorGroupState::Ignored),
        Ok(v1::error_group::State::Resolved) => Some(ErrorGroupState::Resolved),
        Ok(v1::error_group::State::Regressed) => Some(ErrorGroupState::Regressed),
        Ok(v1::error_group::State::Unspecified) | Err(_) => {
            violations.add("states", format!("has {given}, which is no state; it can be 1 to 4"));
            None
        }
    }
}

fn window(given: i32, violations: &mut Violations) -> ErrorWindow {
    match v1::error_group::Window::try_from(given) {
        Ok(v1::error_group::Window::Day) => ErrorWindow::Day,
        Ok(v1::error_group::Window::Hour) => ErrorWindow::Hour,
        Ok(v1::error_group::Window::Week) => ErrorWindow::Week,
        Err(_) => {
            violations
                .add("window", format!("is {given}, which is no window; it can be 0 (day), 1 (hour) or 2 (week)"));
            ErrorWindow::Day
        }
    }
}
