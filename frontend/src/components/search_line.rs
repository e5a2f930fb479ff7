//! Line above a list that is being searched for jobs that pass its filter: how far the search has come, and the button that stops
//! it or lets it go on.

use leptos::prelude::*;

use super::icon::Icon;
use crate::{
    browser::dom,
    feeds::{live::Live, search::Search},
    model::{number::count, search::Found},
};

/// Maximum number of jobs that the server reads in one call of a filtered list.
const READ: u32 = jobqueue_shared::limits::PAGE_SCAN;
/// Age in milliseconds from which a time is shown with its date.
const DATED_MS: i64 = 12 * 3_600_000;

#[component]
pub fn SearchLine(search: Search) -> impl IntoView {
    let live = Live::get();
    let data = search.found.data;
    let of = move |test: fn(&Found) -> bool| Memo::new(move |_| data.with(|found| found.as_ref().is_some_and(test)));
    let (goes_on, incomplete) = (of(|found| found.goes_on), search.is_incomplete());
    let waits = Memo::new(move |_| goes_on.get() && search.stopped.get());
    let visible = Memo::new(move |_| incomplete.get() && search.reads_on.get());
    // Screen readers read that the search goes on or waits, and not each time that it has reached.
    let state = move || if goes_on.get() { "Searching older jobs" } else { "The search waits" };
    let words = move || {
        let reached = data.with(|found| found.as_ref().map(|found| reached(found, live.now.get()))).unwrap_or_default();
        if goes_on.get() {
            format!("Searching older jobs, searched {reached}.")
        } else {
            format!("Searched {reached}. Older jobs are not searched yet.")
        }
    };
    let press = move |_| {
        if goes_on.get_untracked() {
            search.stop();
        } else {
            search.go_on();
        }
    };
    let word = move || match (goes_on.get(), waits.get()) {
        (true, true) => "Stopping…",
        (true, false) => "Stop",
        (false, _) => "Search on",
    };
    view! {
        <Show when=move || visible.get()>
            <div class="notice search-line">
                <Icon name="search" />
                <p>{words}</p>
                <span class="unseen" role="status">
                    {state}
                </span>
                <button type="button" class="button" aria-busy=move || waits.get().to_string() on:click=press>
                    {word}
                </button>
            </div>
        </Show>
    }
}

/// How far a search has come, such as "back to 14:02". A list that no time orders tells how much was read.
fn reached(found: &Found, now: i64) -> String {
    match found.read_to {
        Some(at) if now - at > DATED_MS => format!("back to {}", dom::local_time(at)),
        Some(at) => format!("back to {}", dom::local_clock(at)),
        None => format!("up to {} jobs", count(found.calls.saturating_mul(READ))),
    }
}
