//! Notices of a page: an empty list, an error, a clock that differs, a server that is away.

use leptos::prelude::*;

use super::icon::Icon;
use crate::{browser::dom, calls::client::Failure, feeds::live::Live, model::span};

/// Notice in place of an empty list: why it is empty, and what to do next.
#[component]
pub fn Empty(icon: &'static str, #[prop(into)] title: String, children: Children) -> impl IntoView {
    view! {
        <div class="empty">
            <Icon name=icon />
            <p class="empty-title">{title}</p>
            <div class="muted">{children()}</div>
        </div>
    }
}

/// Error of one part of the page. As long as there is something to show, a server that is away is reported only once,
/// by [`AwayBanner`].
#[component]
pub fn Trouble(
    #[prop(into)] failure: Signal<Option<(i64, Failure)>>,
    /// Whether the page shows older data.
    #[prop(into)]
    has_data: Signal<bool>,
) -> impl IntoView {
    let live = Live::get();
    move || {
        let (since, failure) = failure.get()?;
        if failure.is_away() {
            return (!has_data.get()).then(|| {
                view! {
                    <Empty icon="plugs" title="Nothing to show yet">
                        <p>{failure.message}". It is asked again every 3 s."</p>
                    </Empty>
                }
                .into_any()
            });
        }
        let stale = if has_data.get() {
            format!(" What is shown is from before {}.", dom::local_clock(since))
        } else {
            String::new()
        };
        Some(
            view! {
                <div class="notice bad" role="alert">
                    <Icon name="warning" />
                    <p>{failure.message}"."{stale}</p>
                    <button type="button" class="button" on:click=move |_| live.refresh()>"Try again"</button>
                </div>
            }
            .into_any(),
        )
    }
}

/// Banner below the top bar while the browser's clock differs from the server's: people read times by the browser's.
#[component]
pub fn SkewBanner() -> impl IntoView {
    let live = Live::get();
    let words = Memo::new(move |_| {
        live.skew.get().map(|skew| {
            let way = if skew > 0 { "ahead of" } else { "behind" };
            format!(
                "This browser's clock is {} {way} the server's.",
                span::exact(skew.saturating_abs().saturating_add(5_000) / 10_000 * 10_000)
            )
        })
    });
    view! {
        <div role="status" aria-live="polite">
            {move || {
                words
                    .get()
                    .map(|words| {
                        view! {
                            <div class="notice warn banner skew">
                                <Icon name="timer" />
                                <p>
                                    <strong>{words}</strong>
                                    " Times and ages on these pages are by the server's clock."
                                </p>
                            </div>
                        }
                    })
            }}
        </div>
    }
}

/// Banner below the top bar while the server is away.
#[component]
pub fn AwayBanner() -> impl IntoView {
    let live = Live::get();
    view! {
        <div role="status" aria-live="polite">
            {move || {
                live.away
                    .get()
                    .map(|(since, failure)| {
                        view! {
                            <div class="notice warn banner">
                                <Icon name="plugs" />
                                <p>
                                    <strong>{failure.message}" since "{dom::local_clock(since)}"."</strong>
                                    " The page shows what was known then and goes on by itself when the server is back."
                                </p>
                                <button type="button" class="button" on:click=move |_| live.refresh()>
                                    "Try now"
                                </button>
                            </div>
                        }
                    })
            }}
        </div>
    }
}
