//! Progress of a retry of many jobs: a bar, what failed, and the button that stops it.

use leptos::prelude::*;

use super::{atoms::JobLink, icon::Icon};
use crate::{
    calls::bulk_retry::BulkRetry,
    model::{
        number::{count, length},
        tally::Tally,
    },
};

/// Maximum number of failures that are listed.
const LISTED: usize = 20;

#[component]
pub fn BulkPanel() -> impl IntoView {
    let BulkRetry { tally, is_stopped, is_over } = BulkRetry::get();
    let shown = Memo::new(move |_| tally.with(Option::is_some));
    let of = move |value: fn(&Tally) -> usize| Memo::new(move |_| tally.with(|tally| tally.as_ref().map_or(0, value)));
    let (total, judged, failed) = (of(|it| it.total), of(Tally::judged), of(|it| it.failed.len()));
    let words = move || {
        let progress = tally.with(|tally| tally.as_ref().map(Tally::progress)).unwrap_or_default();
        match (is_over.get(), is_stopped.get()) {
            (true, true) => format!("Retry stopped after {progress}"),
            (true, false) => format!("Retried {progress}"),
            (false, true) => format!("Stopping after {progress}"),
            (false, false) => format!("Retrying: {progress}"),
        }
    };
    let failures = move || {
        let failures = tally.with(|tally| tally.as_ref().map(|it| it.failed.clone())).unwrap_or_default();
        let left = failures.len().saturating_sub(LISTED);
        let rows = failures.into_iter().take(LISTED).map(|(id, message)| {
            view! { <li><JobLink id /> ": " {message}</li> }
        });
        view! {
            {rows.collect_view()}
            {(left > 0).then(|| view! { <li>{count(length(left))}" more"</li> })}
        }
    };
    let press = move |_| {
        if is_over.get_untracked() {
            tally.set(None);
        } else {
            is_stopped.set(true);
        }
    };
    view! {
        <Show when=move || shown.get()>
            <section class="bulk" aria-label="Retry of many jobs">
                <div class="bulk-line">
                    <Icon name="retry" />
                    <p>{words}</p>
                    <button
                        type="button"
                        class="button"
                        aria-busy=move || (is_stopped.get() && !is_over.get()).to_string()
                        on:click=press
                    >
                        {move || if is_over.get() { "Close" } else { "Stop" }}
                    </button>
                </div>
                <progress max=move || total.get() value=move || judged.get() aria-label="Jobs retried"></progress>
                <Show when=move || failed.get() != 0>
                    <details>
                        <summary>{move || count(length(failed.get()))} " failed"</summary>
                        <ul>{failures}</ul>
                    </details>
                </Show>
            </section>
        </Show>
    }
}
