//! Sparklines of queues, fetched by one call for all that are shown.

use std::collections::HashMap;

use jobqueue_shared::proto::v1::GetThroughputsResponse;
use leptos::prelude::*;

use crate::{
    calls::client,
    feeds::live::feed_paced,
    model::queues::spark::{HEIGHT, Spark},
};

/// Milliseconds between two calls: bars stand for two minutes.
const EVERY_MS: u32 = 15_000;

/// Sparklines by worker_id.
#[derive(Clone, Copy)]
pub struct Sparks(Memo<HashMap<String, Spark>>);

impl Sparks {
    /// Sparklines of the queues with these worker_ids.
    pub fn of(worker_ids: Memo<Vec<String>>) -> Self {
        // In a fixed order, so that another order of the rows is no other request.
        let asked = move || {
            let mut worker_ids = worker_ids.get();
            worker_ids.sort_unstable();
            worker_ids
        };
        let fetch = |worker_ids: Vec<String>| async move {
            if worker_ids.is_empty() {
                Ok(GetThroughputsResponse::default())
            } else {
                client::get_throughputs(Spark::request(worker_ids)).await
            }
        };
        let answer = feed_paced(asked, fetch, |_| EVERY_MS);
        // While the sparklines of other rows are under way, those that are known stay.
        Self(Memo::new(move |before: Option<&HashMap<String, Spark>>| {
            let now = answer.data.with(|data| data.as_ref().map(Spark::all));
            now.or_else(|| before.cloned()).unwrap_or_default()
        }))
    }

    fn get(self, worker_id: String) -> Memo<Option<Spark>> {
        Memo::new(move |_| self.0.with(|all| all.get(&worker_id).cloned()))
    }
}

#[component]
pub fn Sparkline(sparks: Sparks, worker_id: String) -> impl IntoView {
    let spark = sparks.get(worker_id);
    let words = move || spark.with(|spark| spark.as_ref().map(|it| it.words.clone()));
    move || {
        let Spark { bars, done, failed, .. } = spark.get()?;
        Some(view! {
            <svg
                class="spark"
                role="img"
                aria-label=words
                viewBox=format!("0 0 {} {HEIGHT}", bars.max(1))
                preserveAspectRatio="none"
            >
                <title>{words}</title>
                <path class="done" d=done />
                <path class="failed" d=failed />
            </svg>
        })
    }
}
