//! Error groups as their list and their page show them.

use std::fmt::Write as _;

use jobqueue_shared::{
    proto::v1::{
        ErrorGroup, GetErrorGroupResponse, ListErrorGroupsRequest, ListErrorGroupsResponse, UpdateErrorGroupRequest,
        error_group::{State, Window},
        list_error_groups_request::Order,
    },
    time::{timestamp, timestamp_ms},
};

use super::{
    filter::{Filter, encode},
    number::{count, length, plural},
    status::Look,
};

/// Address of a group's page.
pub fn group_page(id: &str) -> String {
    format!("/errors/{}", encode(id))
}

/// Icon, word and colour of a group's state.
pub fn look(state: State) -> Look {
    let (icon, word, tone) = match state {
        State::Unspecified => ("question", "unknown", "cancelled"),
        State::Open => ("warning", "open", "failed"),
        State::Regressed => ("retry", "regressed", "retrying"),
        State::Ignored => ("prohibit", "ignored", "cancelled"),
        State::Resolved => ("check", "resolved", "done"),
    };
    Look { icon, word, tone }
}

/// Words of the time windows, with their values in the URL.
pub const WINDOWS: [(&str, &str, Window); 3] =
    [("1h", "1 h", Window::Hour), ("", "24 h", Window::Day), ("7d", "7 days", Window::Week)];

/// Words of the orders, with their values in the URL.
pub const ORDERS: [(&str, &str, Order); 3] = [
    ("", "Last seen", Order::LastSeen),
    ("attempts", "Failed attempts", Order::Attempts),
    ("dead_letters", "Dead letters", Order::DeadLetters),
];

/// Words of the choices of states, with their values in the URL and the states.
pub const CHOICES: [(&str, &str, &[State]); 6] = [
    ("", "Open and regressed", &[State::Open, State::Regressed]),
    ("all", "All", &[]),
    ("open", "Open", &[State::Open]),
    ("regressed", "Regressed", &[State::Regressed]),
    ("ignored", "Ignored", &[State::Ignored]),
    ("resolved", "Resolved", &[State::Resolved]),
];

/// Which groups the list shows, in the query of its URL; "" = the first choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorFilter {
    pub worker_id: String,
    pub state: String,
    pub order: String,
    pub window: String,
}

impl ErrorFilter {
    /// Reads the filter from query parameters, which `get` looks up. An unknown value counts as none.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Self {
        let known =
            |name: &str, values: &[&str]| get(name).filter(|it| values.contains(&it.as_str())).unwrap_or_default();
        Self {
            worker_id: get("worker_id").unwrap_or_default(),
            state: known("state", &CHOICES.map(|it| it.0)),
            order: known("order", &ORDERS.map(|it| it.0)),
            window: known("window", &WINDOWS.map(|it| it.0)),
        }
    }

    /// URL of the list, such as `/errors?worker_id=etl&window=7d`.
    pub fn url(&self) -> String {
        let mut url = String::from("/errors");
        let parts =
            [("worker_id", &self.worker_id), ("state", &self.state), ("order", &self.order), ("window", &self.window)];
        for (name, value) in parts.into_iter().filter(|(_, value)| !value.is_empty()) {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(name);
            url.push('=');
            url.push_str(&encode(value));
        }
        url
    }

    pub fn window(&self) -> Window {
        WINDOWS.into_iter().find(|it| it.0 == self.window).map_or(Window::Day, |it| it.2)
    }

    /// True when groups are left out that the list shows by itself.
    pub fn is_narrow(&self) -> bool {
        !self.worker_id.is_empty() || !matches!(self.state.as_str(), "" | "all")
    }

    pub fn request(&self, page_size: i32) -> ListErrorGroupsRequest {
        let states = CHOICES.into_iter().find(|it| it.0 == self.state).map_or(&[][..], |it| it.2);
        let order = ORDERS.into_iter().find(|it| it.0 == self.order).map_or(Order::LastSeen, |it| it.2);
        ListErrorGroupsRequest {
            worker_id: self.worker_id.clone(),
            states: states.iter().map(|state| i32::from(*state)).collect(),
            order: order.into(),
            window: self.window().into(),
            page_size,
            page_token: String::new(),
        }
    }
}

/// Row of the list of error groups.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupRow {
    pub id: String,
    pub title: String,
    pub task: String,
    /// worker_ids in words, such as "a, b and more".
    pub worker_ids: String,
    pub look: Look,
    pub counts: Vec<i32>,
    pub in_window: i64,
    pub dead_letters: i32,
    pub first_seen: Option<i64>,
    pub last_seen: Option<i64>,
}

impl GroupRow {
    pub fn of(group: &ErrorGroup) -> Self {
        let more = if group.more_worker_ids { " and more" } else { "" };
        Self {
            id: group.id.clone(),
            title: group.title.clone(),
            task: group.task.clone(),
            worker_ids: format!("{}{more}", group.worker_ids.join(", ")),
            look: look(group.state()),
            counts: group.counts.clone(),
            in_window: group.attempts_in_window,
            dead_letters: group.dead_letters,
            first_seen: group.first_seen.as_ref().map(timestamp_ms),
            last_seen: group.last_seen.as_ref().map(timestamp_ms),
        }
    }

    pub fn all(answer: &ListErrorGroupsResponse) -> Vec<Self> {
        answer.groups.iter().map(Self::of).collect()
    }
}

/// Number of groups in words, and of those that are shown if these are fewer.
pub fn total(answer: &ListErrorGroupsResponse) -> String {
    let (shown, all) = (length(answer.groups.len()), i64::from(answer.total));
    let words = plural(all, "group", "groups");
    if shown < all { format!("{} of {words}", count(shown)) } else { words }
}

/// One worker_id of a group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkerIdRow {
    pub worker_id: String,
    pub attempts: i64,
    pub dead_letters: i32,
    pub last_seen: Option<i64>,
}

impl WorkerIdRow {
    pub fn all(answer: &GetErrorGroupResponse) -> Vec<Self> {
        let row = |it: &jobqueue_shared::proto::v1::ErrorGroupWorkerId| Self {
            worker_id: it.worker_id.clone(),
            attempts: it.attempts,
            dead_letters: it.dead_letters,
            last_seen: it.last_seen.as_ref().map(timestamp_ms),
        };
        answer.worker_ids.iter().map(row).collect()
    }

    /// Address of the failed jobs of the worker_id.
    pub fn jobs(&self) -> String {
        Filter::of_worker_id(&self.worker_id).url("/dead-letters")
    }
}

/// Page of an error group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupPage {
    pub id: String,
    pub title: String,
    pub task: String,
    pub state: State,
    /// Decision of a person in words: "Ignored until", "after 5 more failed attempts".
    pub ignored_until: Option<i64>,
    pub ignored_attempts: Option<i64>,
    pub changed: Option<i64>,
    pub first_seen: Option<i64>,
    pub last_seen: Option<i64>,
    pub attempts: i64,
    pub dead_letters: i32,
    /// Number of jobs that wait for their next attempt, in words.
    pub retrying: String,
    pub sample: String,
    pub sample_job: String,
    pub note: String,
    pub link: String,
}

impl GroupPage {
    pub fn of(answer: &GetErrorGroupResponse) -> Option<Self> {
        let group = answer.group.as_ref()?;
        let floor = if answer.retrying_is_floor { "at least " } else { "" };
        Some(Self {
            id: group.id.clone(),
            title: group.title.clone(),
            task: group.task.clone(),
            state: group.state(),
            ignored_until: group.ignored_until.as_ref().map(timestamp_ms),
            ignored_attempts: group.ignored_attempts,
            changed: group.state_changed_at.as_ref().map(timestamp_ms),
            first_seen: group.first_seen.as_ref().map(timestamp_ms),
            last_seen: group.last_seen.as_ref().map(timestamp_ms),
            attempts: group.attempts,
            dead_letters: group.dead_letters,
            retrying: format!("{floor}{}", count(answer.retrying)),
            sample: answer.sample_error.clone(),
            sample_job: answer.sample_job_id.clone(),
            note: group.note.clone(),
            link: group.link.clone(),
        })
    }

    pub fn is_settled(&self) -> bool {
        matches!(self.state, State::Ignored | State::Resolved)
    }
}

/// Choices for how long a group is ignored: value and words.
pub const IGNORE_FOR: [(&str, &str); 5] = [
    ("day", "for a day"),
    ("week", "for a week"),
    ("100", "for 100 more failed attempts"),
    ("1000", "for 1,000 more failed attempts"),
    ("", "until it is reopened"),
];

/// Request that ignores a group for one of [`IGNORE_FOR`].
pub fn ignore(id: String, choice: &str, now: i64) -> UpdateErrorGroupRequest {
    const DAY_MS: i64 = 86_400_000;
    let days = match choice {
        "day" => Some(1),
        "week" => Some(7),
        _ => None,
    };
    UpdateErrorGroupRequest {
        ignore_until: days.map(|days| timestamp(now + days * DAY_MS)),
        ignore_attempts: choice.parse().ok(),
        ..decide(id, State::Ignored)
    }
}

/// Request that sets the state of a group.
pub fn decide(id: String, state: State) -> UpdateErrorGroupRequest {
    UpdateErrorGroupRequest { id, state: state.into(), ..UpdateErrorGroupRequest::default() }
}

/// A slot of a group's chart: failed attempts, and the jobs among them that became dead letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Start of the slot, in milliseconds since 1970.
    pub at: i64,
    pub attempts: i32,
    pub died: i32,
}

/// Slots of a group's chart, oldest first.
pub fn slots(answer: &GetErrorGroupResponse) -> Vec<Slot> {
    let counts = answer.group.as_ref().map(|group| group.counts.as_slice()).unwrap_or_default();
    // An hour has slots of a minute; a day and a week have slots of an hour.
    let step = if counts.len() == 60 { 60_000 } else { 3_600_000 };
    let end = answer.window_end.as_ref().map_or(0, timestamp_ms);
    let first = end - length(counts.len()) * step;
    let slot = |(n, attempts): (usize, &i32)| Slot {
        at: first + length(n) * step,
        attempts: *attempts,
        died: answer.died.get(n).copied().unwrap_or_default(),
    };
    counts.iter().enumerate().map(slot).collect()
}

impl Slot {
    /// Values in words, for screen readers; `time` is the start in words.
    pub fn sentence(self, time: &str) -> String {
        let failed = plural(self.attempts, "failed attempt", "failed attempts");
        format!("{time}: {failed}, {}", plural(self.died, "new dead letter", "new dead letters"))
    }
}

/// SVG path of a small chart of bars, `width` by `height`, whose highest bar is the largest value. Several slots share a
/// bar where there are more of them than `bars`.
pub fn spark(counts: &[i32], width: f64, height: f64, bars: usize) -> String {
    let merged: Vec<i64> = if counts.is_empty() {
        Vec::new()
    } else {
        let size = counts.len().div_ceil(bars.max(1));
        counts.rchunks(size).rev().map(|part| part.iter().map(|n| i64::from(*n)).sum()).collect()
    };
    let most = merged.iter().copied().max().unwrap_or_default().max(1);
    let step = width / merged.len().max(1) as f64;
    let mut path = String::new();
    for (at, n) in merged.iter().enumerate().filter(|(_, n)| **n > 0) {
        // A single failure among thousands is still seen.
        let high = (height * *n as f64 / most as f64).max(1.5);
        let (x, wide) = (at as f64 * step, (step - 1.0).max(1.0));
        let _ = write!(path, "M{x:.1} {height:.1}h{wide:.1}v-{high:.1}h-{wide:.1}z");
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> ErrorGroup {
        ErrorGroup {
            id: "00ff00ff00ff00ff".into(),
            title: "SMTP 550".into(),
            task: "email".into(),
            state: State::Regressed.into(),
            worker_ids: vec!["a".into(), "b".into()],
            more_worker_ids: true,
            counts: vec![0, 2, 1],
            attempts_in_window: 3,
            ..ErrorGroup::default()
        }
    }

    #[test]
    fn a_row_says_where_and_in_which_state_a_group_is() {
        let row = GroupRow::of(&group());
        assert_eq!((row.worker_ids.as_str(), row.look.word, row.in_window), ("a, b and more", "regressed", 3));
        let answer = ListErrorGroupsResponse { groups: vec![group()], total: 1_200, ..Default::default() };
        assert_eq!(total(&answer), "1 of 1,200 groups");
        assert_eq!(total(&ListErrorGroupsResponse { total: 1, ..answer }), "1 group");
    }

    #[test]
    fn every_state_has_a_shape_a_word_and_a_colour_of_its_own() {
        let looks = [State::Open, State::Ignored, State::Resolved, State::Regressed].map(look);
        for part in [|it: Look| it.icon, |it: Look| it.word, |it: Look| it.tone] {
            let parts: std::collections::BTreeSet<_> = looks.map(part).into_iter().collect();
            assert_eq!(parts.len(), 4);
        }
    }

    #[test]
    fn the_filter_survives_the_url_and_unknown_values_are_none() {
        let filter =
            ErrorFilter { worker_id: "a&b".into(), state: "all".into(), order: String::new(), window: "7d".into() };
        assert_eq!(filter.url(), "/errors?worker_id=a%26b&state=all&window=7d");
        assert_eq!(ErrorFilter::default().url(), "/errors");
        let read = |name: &str| Some(if name == "worker_id" { "w" } else { "nonsense" }.to_owned());
        assert_eq!(ErrorFilter::read(read), ErrorFilter { worker_id: "w".into(), ..ErrorFilter::default() });
        let request = filter.request(50);
        assert_eq!((request.states.len(), request.window(), request.order()), (0, Window::Week, Order::LastSeen));
        assert_eq!(ErrorFilter::default().request(50).states, [1, 4]);
    }

    #[test]
    fn a_group_is_ignored_for_a_time_a_count_or_for_good() {
        let request = |choice| ignore("x".into(), choice, 1_000);
        assert_eq!(request("day").ignore_until, Some(timestamp(86_401_000)));
        assert_eq!((request("100").ignore_attempts, request("100").ignore_until), (Some(100), None));
        assert_eq!((request("").ignore_attempts, request("").ignore_until), (None, None));
        assert_eq!(request("").state(), State::Ignored);
    }

    #[test]
    fn slots_have_the_times_of_their_window() {
        let answer = GetErrorGroupResponse {
            group: Some(group()),
            died: vec![0, 1],
            window_end: Some(timestamp(10 * 3_600_000)),
            ..GetErrorGroupResponse::default()
        };
        let slots = slots(&answer);
        assert_eq!(slots.iter().map(|it| it.at / 3_600_000).collect::<Vec<_>>(), [7, 8, 9]);
        assert_eq!(slots[1].sentence("08:00"), "08:00: 2 failed attempts, 1 new dead letter");
        assert_eq!(slots[2].died, 0);
    }

    #[test]
    fn a_small_chart_has_a_bar_for_each_slot_that_failed() {
        assert_eq!(spark(&[0, 2, 1], 30.0, 10.0, 30), "M10.0 10.0h9.0v-10.0h-9.0zM20.0 10.0h9.0v-5.0h-9.0z");
        assert_eq!(spark(&[1, 1, 0, 0], 20.0, 10.0, 2), "M0.0 10.0h9.0v-10.0h-9.0z", "two slots share a bar");
        assert_eq!(spark(&[], 30.0, 10.0, 30), "");
        assert!(spark(&[1, 100_000], 20.0, 10.0, 2).contains("v-1.5"), "few beside many are seen");
    }
}
