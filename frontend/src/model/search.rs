//! Search of a list for jobs that pass a filter. The server reads a bounded number of jobs in each call, so that a page
//! may take several calls.

use std::collections::HashSet;

use jobqueue_shared::{
    limits,
    proto::v1::{Job, ListFailedJobsResponse, ListJobsResponse},
    time::timestamp_ms,
};

/// Maximum number of calls until a person has to ask for more; each reads up to 5,000 jobs.
const CALLS: u32 = 40;

/// Answer to one call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    pub jobs: Vec<Job>,
    /// Token of the next call; "" = the list ends here.
    pub next: String,
    /// Time of the last job that was read, in milliseconds since 1970; `None` in a list that no time orders.
    pub read_to: Option<i64>,
}

impl From<ListJobsResponse> for Part {
    fn from(answer: ListJobsResponse) -> Self {
        let read_to = answer.read_to.as_ref().map(timestamp_ms);
        Self { jobs: answer.jobs, next: answer.next_page_token, read_to }
    }
}

impl From<ListFailedJobsResponse> for Part {
    fn from(answer: ListFailedJobsResponse) -> Self {
        let read_to = answer.read_to.as_ref().map(timestamp_ms);
        Self { jobs: answer.jobs, next: answer.next_page_token, read_to }
    }
}

/// Jobs that a search has found so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub jobs: Vec<Job>,
    pub next: String,
    pub read_to: Option<i64>,
    /// Number of calls that led here.
    pub calls: u32,
    /// Number of calls after which the search waits for a person.
    pub allowed: u32,
    /// True while the next call is to be made at once.
    pub goes_on: bool,
    /// Number of jobs that fill the page.
    pub size: usize,
}

impl Default for Found {
    fn default() -> Self {
        Self {
            jobs: vec![],
            next: String::new(),
            read_to: None,
            calls: 0,
            allowed: CALLS,
            goes_on: false,
            size: limits::PAGE_DEFAULT as usize,
        }
    }
}

impl Found {
    /// Beginning of the same search. It ends where this one has ended: after as many calls if that is neither a full
    /// page nor the end of the list.
    pub fn begin_again(&self) -> Self {
        let allowed = if self.is_incomplete() { self.calls } else { self.allowed.max(CALLS) };
        Self { allowed, size: self.size, ..Self::default() }
    }

    /// Beginning of a search for a page of `size` jobs.
    pub fn of_size(size: u32) -> Self {
        Self { size: size as usize, ..Self::default() }
    }

    /// Adds the answer of a call. `reads_on` tells whether the page is filled by further calls, `stop` whether a person
    /// has stopped the search.
    pub fn add(&mut self, part: Part, reads_on: bool, stop: bool) {
        let known: HashSet<&str> = self.jobs.iter().map(|job| job.id.as_str()).collect();
        // A job that has moved in its list since the last call may come twice.
        let new: Vec<Job> = part.jobs.into_iter().filter(|job| !known.contains(job.id.as_str())).collect();
        self.jobs.extend(new);
        self.next = part.next;
        self.read_to = part.read_to;
        self.calls += 1;
        self.goes_on = reads_on && !stop && !self.is_full() && !self.next.is_empty() && self.calls < self.allowed;
    }

    /// Lets a search that waits go on.
    pub fn go_on(&mut self) {
        self.allowed = self.calls.saturating_add(CALLS);
        self.goes_on = !self.next.is_empty() && !self.is_full();
    }

    fn is_full(&self) -> bool {
        self.jobs.len() >= self.size
    }

    /// True when neither the page is full nor the list has ended: there may be more jobs that belong on the page.
    pub fn is_incomplete(&self) -> bool {
        !self.next.is_empty() && !self.is_full()
    }

    /// Token of the next page; "" while the search goes on, and on the last page.
    pub fn next_page(&self) -> &String {
        static NONE: String = String::new();
        if self.goes_on { &NONE } else { &self.next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(ids: std::ops::Range<usize>, next: &str) -> Part {
        let jobs = ids.map(|n| Job { id: n.to_string(), ..Job::default() }).collect();
        Part { jobs, next: next.into(), read_to: Some(5) }
    }

    #[test]
    fn a_search_goes_on_until_the_page_is_full() {
        let mut found = Found::default();
        found.add(part(0..0, "a"), true, false);
        assert!(found.goes_on && found.is_incomplete() && found.next_page().is_empty());
        found.add(part(0..30, "b"), true, false);
        assert!(found.goes_on);
        found.add(part(20..60, "c"), true, false);
        assert_eq!((found.jobs.len(), found.goes_on, found.next_page().as_str()), (60, false, "c"), "each job once");
        assert!(!found.is_incomplete());
    }

    #[test]
    fn a_search_ends_with_the_list_when_it_is_stopped_and_after_many_calls() {
        let mut ended = Found::default();
        ended.add(part(0..1, ""), true, false);
        assert!(!ended.goes_on && !ended.is_incomplete());

        let mut stopped = Found::default();
        stopped.add(part(0..1, "a"), true, true);
        assert!(!stopped.goes_on && stopped.is_incomplete());
        let mut refreshed = stopped.begin_again();
        refreshed.add(part(0..1, "a"), true, false);
        assert!(!refreshed.goes_on, "a refresh does not go further");
        stopped.go_on();
        assert!(stopped.goes_on);

        let mut long = Found::default();
        while long.calls < CALLS {
            assert!(long.calls == 0 || long.goes_on);
            long.add(part(0..0, "a"), true, false);
        }
        assert!(!long.goes_on && long.is_incomplete());
    }

    #[test]
    fn a_larger_page_takes_more_jobs() {
        let mut found = Found::of_size(100);
        found.add(part(0..60, "a"), true, false);
        assert!(found.goes_on && found.begin_again().size == 100);
        found.add(part(60..100, "b"), true, false);
        assert!(!found.goes_on);
    }

    #[test]
    fn a_page_without_a_filter_is_one_call() {
        let mut found = Found::default();
        found.add(part(0..1, "a"), false, false);
        assert_eq!((found.goes_on, found.next_page().as_str()), (false, "a"));
    }
}
