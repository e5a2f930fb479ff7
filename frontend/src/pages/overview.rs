//! Overview page: what needs attention, counts, throughput, the queues, the newest dead letters.

use leptos::prelude::*;
use leptos_router::components::A;

use crate::{
    components::{
        chart::{Throughput, throughput_of},
        heading::Heading,
        letters::NewestDeadLetters,
        notice::Trouble,
        queues::attention::{NeedsAttention, minutely},
        queues::queue_table::{NoQueues, QueueTable},
        tiles::Tiles,
    },
    feeds::counts_feed::CountsFeed,
    model::{
        number::{length, plural},
        queues::queue::QueueRow,
        throughput::{Minute, Span},
    },
};

/// Maximum number of queues that the overview shows.
const QUEUES: usize = 12;

#[component]
pub fn Overview() -> impl IntoView {
    let CountsFeed(counts) = CountsFeed::get();
    let span = RwSignal::new(Span::Hour);
    let throughput = throughput_of(String::new(), span);
    let minutes = Memo::new(move |_| throughput.data.with(|data| data.as_ref().map(Minute::all)).unwrap_or_default());
    let has_counts = Memo::new(move |_| counts.data.with(Option::is_some));
    view! {
        <div class="page-head">
            <Heading title="Overview" />
            <A href="/submit" attr:class="button primary">"Submit job"</A>
        </div>
        <Trouble failure=counts.failure has_data=has_counts />
        <NeedsAttention />
        <Tiles counts=Memo::new(move |_| counts.data.get()) minutes span />
        <Trouble failure=throughput.failure has_data=Signal::stored(true) />
        <Throughput minutes span />
        <Queues />
        <NewestDeadLetters />
    }
}

/// The queues with most trouble.
#[component]
fn Queues() -> impl IntoView {
    let CountsFeed(counts) = CountsFeed::get();
    let now = minutely();
    let all = move || {
        let count = counts.data.with(|data| data.as_ref().map_or(0, |data| data.worker_ids.len()));
        if count > QUEUES { format!("All {}", plural(length(count), "queue", "queues")) } else { "All".to_owned() }
    };
    view! {
        <section class="card">
            <header class="card-head">
                <h2>"Queues"</h2>
                <span class="muted">"by worker_id, the worst first"</span>
                <div class="card-actions">
                    <A href="/queues">{all}</A>
                </div>
            </header>
            <QueueTable
                counts
                rows=move |counts| {
                    let mut rows = QueueRow::all(counts, "", now.get());
                    rows.truncate(QUEUES);
                    rows
                }
                empty=|| view! { <NoQueues /> }
                frame="scroll-x short"
            />
        </section>
    }
}
