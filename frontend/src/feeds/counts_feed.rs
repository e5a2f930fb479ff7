//! Feed of the counts of jobs (GetMetrics), requested once for all parts of the page that show them.

use jobqueue_shared::proto::v1::GetMetricsResponse;
use leptos::prelude::*;

use crate::{
    calls::client,
    feeds::live::{Feed, feed},
    model::counts::{self, Pause},
};

#[derive(Clone, Copy)]
pub struct CountsFeed(pub Feed<GetMetricsResponse>);

impl CountsFeed {
    pub fn provide() {
        provide_context(Self(feed(|| (), |()| client::all_metrics())));
    }

    pub fn get() -> Self {
        expect_context()
    }

    /// Known worker_ids: those that have jobs or sessions.
    pub fn worker_ids(self) -> Memo<Vec<String>> {
        Memo::new(move |_| self.0.data.with(|data| data.as_ref().map(counts::worker_ids)).unwrap_or_default())
    }

    /// Number of dead letters in words; `None` when there are none.
    pub fn dead_letters(self) -> Memo<Option<String>> {
        Memo::new(move |_| self.0.data.with(|data| data.as_ref().and_then(counts::dead_letters)))
    }

    /// Counts of one worker_id; `None` before the first answer, or when it has none.
    pub fn of_worker_id(self, worker_id: String) -> Memo<Option<GetMetricsResponse>> {
        Memo::new(move |_| self.0.data.with(|data| counts::of_worker_id(data.as_ref()?, &worker_id)))
    }

    /// Pause of one worker_id.
    pub fn pause_of(self, worker_id: String) -> Memo<Option<Pause>> {
        Memo::new(move |_| self.0.data.with(|data| counts::pause_of(data.as_ref()?, &worker_id)))
    }
}
