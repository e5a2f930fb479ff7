//! Queues page: all worker_ids, those with trouble first, a page at a time.

use leptos::prelude::*;
use leptos_router::components::A;

use super::filters::{FilterBar, from_url};
use crate::{
    components::{
        heading::Heading,
        icon::Icon,
        notice::{Empty, Trouble},
        queues::attention::minutely,
        queues::queue_table::{NoQueues, QueueTable},
    },
    feeds::counts_feed::CountsFeed,
    model::{
        filter::Filter,
        number::{count, length, plural},
        queues::queue::{self, QueueRow},
    },
};

const PATH: &str = "/queues";

#[component]
pub fn Queues() -> impl IntoView {
    let CountsFeed(counts) = CountsFeed::get();
    let filter = from_url();
    let now = minutely();
    let has_counts = Memo::new(move |_| counts.data.with(Option::is_some));
    let total = Memo::new(move |_| {
        filter.with(|filter| {
            counts.data.with(|data| data.as_ref().map_or(0, |data| QueueRow::all(data, &filter.worker_id, 0).len()))
        })
    });
    let number = move || has_counts.get().then(|| plural(length(total.get()), "queue", "queues"));
    view! {
        <div class="page-head">
            <Heading title="Queues" />
            <span class="muted">{number}</span>
            <A href="/workers" attr:class="button">
                <Icon name="workers" />
                "All workers"
            </A>
        </div>
        <FilterBar path=PATH filter failure=Signal::stored(None) with_task=false />
        <Trouble failure=counts.failure has_data=has_counts />
        <QueueTable
            counts
            rows=move |counts| {
                filter.with(|filter| queue::cut_page(QueueRow::all(counts, &filter.worker_id, now.get()), at(filter)))
            }
            empty=move || {
                if filter.with(Filter::is_set) {
                    view! {
                        <Empty icon="queues" title="No worker_id contains this text">
                            <p>"Clear the filter to see all."</p>
                        </Empty>
                    }
                    .into_any()
                } else {
                    view! { <NoQueues /> }.into_any()
                }
            }
        />
        <Pages filter total />
    }
}

/// Number of the page in the filter, from 0.
fn at(filter: &Filter) -> usize {
    filter.page.parse::<usize>().unwrap_or(1).saturating_sub(1)
}

/// Links to the pages before and after the present one.
#[component]
fn Pages(filter: Memo<Filter>, total: Memo<usize>) -> impl IntoView {
    let pages = Memo::new(move |_| queue::pages(total.get()));
    let at = Memo::new(move |_| filter.with(at).min(pages.get().saturating_sub(1)));
    let address = move |page: usize| {
        let page = if page == 0 { String::new() } else { (page + 1).to_string() };
        Filter { page, ..filter.get() }.url(PATH)
    };
    view! {
        <Show when=move || { pages.get() > 1 }>
            <nav class="pager" aria-label="Pages of queues">
                {move || {
                    (at.get() > 0)
                        .then(|| {
                            view! {
                                <A href=address(at.get() - 1) attr:class="button">
                                    <Icon name="left" />
                                    "Previous"
                                </A>
                            }
                        })
                }}
                <span class="muted">
                    {move || format!("Page {} of {}", count(length(at.get() + 1)), count(length(pages.get())))}
                </span>
                {move || {
                    (at.get() + 1 < pages.get())
                        .then(|| {
                            view! {
                                <A href=address(at.get() + 1) attr:class="button">
                                    "Next"
                                    <Icon name="right" />
                                </A>
                            }
                        })
                }}
            </nav>
        </Show>
    }
}
