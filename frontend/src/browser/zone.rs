//! Zone in which all pages show times: the browser's, until the person chooses UTC, in this tab or in another.

use std::cell::Cell;

use leptos::{ev, prelude::*};

use crate::browser::dom;

const KEY: &str = "zone";
const UTC: &str = "utc";

thread_local! {
    /// Whether times are shown in UTC; a signal, so that every time that is shown follows it.
    static IS_UTC: Cell<Option<RwSignal<bool>>> = const { Cell::new(None) };
}

fn stored() -> bool {
    dom::local_storage().and_then(|storage| storage.get_item(KEY).ok().flatten()).as_deref() == Some(UTC)
}

/// Reads the choice; it belongs to the whole app.
pub fn provide() {
    let is_utc = RwSignal::new(stored());
    IS_UTC.set(Some(is_utc));
    // Sent when another tab has changed the storage; without a key, it has been cleared.
    window_event_listener(ev::storage, move |event| {
        if event.key().is_none_or(|key| key == KEY) {
            is_utc.set(stored());
        }
    });
}

/// Whether times are shown in UTC.
pub fn is_utc() -> bool {
    IS_UTC.get().and_then(|is_utc| is_utc.try_get()).unwrap_or_default()
}

fn choose(utc: bool) {
    let storage = dom::local_storage();
    if utc {
        storage.and_then(|storage| storage.set_item(KEY, UTC).ok());
    } else {
        storage.and_then(|storage| storage.remove_item(KEY).ok());
    }
    if let Some(is_utc) = IS_UTC.get() {
        is_utc.set(utc);
    }
}

/// Pair of buttons that choose the zone.
#[component]
pub fn ZoneSwitch() -> impl IntoView {
    let button = |utc: bool, word: &'static str| {
        view! {
            <button
                type="button"
                class="button quiet"
                aria-pressed=move || (is_utc() == utc).to_string()
                on:click=move |_| choose(utc)
            >
                {word}
            </button>
        }
    };
    view! {
        <div class="zone" role="group" aria-label="Zone of the times on all pages">
            {button(false, "Local time")} {button(true, "UTC")}
        </div>
    }
}
