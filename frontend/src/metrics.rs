//! Counts of the jobs that several parts of the page show, requested once.

use jobqueue_shared::proto::v1::GetMetricsResponse;
use leptos::prelude::*;

use crate::{
    api,
    live::{Feed, feed},
    model::metrics::{self, Pause},
};

#[derive(Clone, Copy)]
pub struct Metrics(pub Feed<GetMetricsResponse>);

impl Metrics {
    pub fn provide() {
        provide_context(Self(feed(|| (), |()| api::all_metrics())));
    }

    pub fn get() -> Self {
        expect_context()
    }

    /// Known worker_ids: those that have jobs or sessions.
    pub fn worker_ids(self) -> Memo<Vec<String>> {
        Memo::new(move |_| self.0.data.with(|data| data.as_ref().map(metrics::worker_ids)).unwrap_or_default())
    }

    /// Number of dead letters in words; `None` when there are none.
    pub fn dead_letters(self) -> Memo<Option<String>> {
        Memo::new(move |_| self.0.data.with(|data| data.as_ref().and_then(metrics::dead_letters)))
    }

    /// Pause of one worker_id.
    pub fn pause_of(self, worker_id: String) -> Memo<Option<Pause>> {
        Memo::new(move |_| self.0.data.with(|data| metrics::pause_of(data.as_ref()?, &worker_id)))
    }
}
