//! Palette (Ctrl-K): one field from which a person reaches every page, queue and id, and what the page can do. It is a
//! combobox: the focus stays in the field, and the keys move through the list.

use leptos::{ev, html, prelude::*};
use leptos_router::{
    NavigateOptions,
    hooks::{use_location, use_navigate},
};
use wasm_bindgen::JsCast as _;
use web_sys::HtmlElement;

use super::keys::KeyState;
use crate::{
    browser::{dom, views::SavedViews},
    calls::{
        id_search::{self, ShownIds},
        in_flight::InFlight,
    },
    components::{icon::Icon, job_text::JobText},
    feeds::counts_feed::CountsFeed,
    model::{
        commands::{
            palette::{Entry, Group, Target, offered},
            places::PLACES,
            views::View,
        },
        counts::worker_ids,
        id_query::IdQuery,
        queues::queue,
    },
    toast::Toasts,
};

/// Controls of the present page that the palette offers.
const CONTROLS: &str = "main .page-head :is(button, a.button), main .concern .button, main .selection button, \
                        main .chart-card .card-actions button";
/// Key of the call that looks up an id.
const LOOKUP: &str = "lookup of an id";

#[derive(Clone, Copy)]
pub struct Palette(RwSignal<bool>);

impl Palette {
    pub fn provide() {
        provide_context(Self(RwSignal::new(false)));
    }

    pub fn get() -> Self {
        expect_context()
    }

    pub fn show(self) {
        self.0.set(true);
    }
}

/// Button that opens the palette.
#[component]
pub fn PaletteButton() -> impl IntoView {
    let palette = Palette::get();
    view! {
        <button
            type="button"
            class="button quiet palette-button"
            title="Go to a page, queue or id, or do something"
            aria-keyshortcuts="Control+K Meta+K"
            on:click=move |_| palette.show()
        >
            <Icon name="terminal" />
            <span class="unseen">"Go to or do"</span>
            <kbd>"Ctrl K"</kbd>
        </button>
    }
}

#[component]
pub fn PaletteDialog() -> impl IntoView {
    let Palette(shown) = Palette::get();
    let counts = CountsFeed::get();
    let (keys, toasts, in_flight, ids) = (KeyState::get(), Toasts::get(), InFlight::get(), ShownIds::get());
    let saved = SavedViews::get();
    let navigate = use_navigate();
    let dialog = NodeRef::<html::Dialog>::new();
    let text = RwSignal::new(String::new());
    let entries = RwSignal::new(Vec::<Entry>::new());
    // Controls that were on the page when the palette was opened.
    let controls = StoredValue::new_local(Vec::<HtmlElement>::new());
    let at = RwSignal::new(0_usize);
    let list = Memo::new(move |_| {
        text.with(|text| {
            let mut found = entries.with(|entries| offered(entries, text));
            if let Some(query) = IdQuery::find(text) {
                let words = format!("Open the job or session {}", query.words());
                found.insert(0, Entry { group: Group::Id, words, target: Target::LookUp });
            }
            found
        })
    });
    let chosen = Memo::new(move |_| at.get().min(list.with(Vec::len).saturating_sub(1)));

    // Not `shown`: after Escape it follows only when the event of the closing has come.
    let is_open = move || dialog.get_untracked().is_some_and(|dialog| dialog.open());
    window_event_listener(ev::keydown, move |event| {
        let plain = (event.ctrl_key() || event.meta_key()) && !event.alt_key() && !event.shift_key();
        if plain && event.key().eq_ignore_ascii_case("k") {
            event.prevent_default();
            shown.set(!is_open());
        }
    });
    Effect::new(move |_| {
        let Some(dialog) = dialog.get() else { return };
        match (shown.get(), dialog.open()) {
            (true, false) => {
                let found = dom::all(CONTROLS);
                let found: Vec<HtmlElement> =
                    found.into_iter().filter_map(|it| it.dyn_into().ok()).filter(is_usable).collect();
                let worker_ids = counts.0.data.with_untracked(|data| data.as_ref().map(worker_ids)).unwrap_or_default();
                entries.set(all_entries(&found, saved.0.get_untracked(), worker_ids));
                controls.set_value(found);
                text.set(String::new());
                at.set(0);
                let _ = dialog.show_modal();
            }
            (false, true) => dialog.close(),
            _ => {}
        }
    });
    // Navigation closes the palette, as it does any dialog.
    let location = use_location();
    Effect::new(move |before: Option<()>| {
        location.pathname.track();
        location.search.track();
        if before.is_some() {
            shown.set(false);
        }
    });

    let run = Callback::new(move |place: usize| {
        let Some(entry) = list.with_untracked(|list| list.get(place).cloned()) else { return };
        let typed = text.get_untracked();
        // Closed first, so that the focus is back where it was before the page or its control takes it.
        if let Some(dialog) = dialog.get_untracked() {
            dialog.close();
        }
        match entry.target {
            Target::Open(address) => navigate(&address, NavigateOptions::default()),
            Target::Keys => keys.show(),
            Target::Press(place) => {
                if let Some(control) = controls.with_value(|controls| controls.get(place).cloned()) {
                    control.click();
                }
            }
            Target::LookUp => {
                let (navigate, query) = (navigate.clone(), IdQuery::find(&typed));
                in_flight.run(vec![LOOKUP.to_owned()], async move {
                    let Some(query) = query else { return };
                    match id_search::find(&query, ids).await {
                        Ok(page) => navigate(&page, NavigateOptions::default()),
                        Err(message) => toasts.bad(message),
                    }
                });
            }
        }
    });
    let press = move |event: ev::KeyboardEvent| {
        let last = list.with_untracked(Vec::len).saturating_sub(1);
        let now = chosen.get_untracked();
        let to = match event.key().as_str() {
            "ArrowDown" => {
                if now == last {
                    0
                } else {
                    now + 1
                }
            }
            "ArrowUp" => now.checked_sub(1).unwrap_or(last),
            "PageDown" => last,
            "PageUp" => 0,
            "Enter" => {
                event.prevent_default();
                return run.run(now);
            }
            _ => return,
        };
        event.prevent_default();
        at.set(to);
    };
    let option = move |place: usize| {
        let entry = move || list.with(|list| list.get(place).cloned());
        let words = Signal::derive(move || entry().map(|entry| entry.words).unwrap_or_default());
        let group = move || entry().map(|entry| entry.group.word());
        view! {
            <li
                id=option_id(place)
                role="option"
                aria-selected=move || (chosen.get() == place).to_string()
                on:pointermove=move |_| at.set(place)
                on:click=move |_| run.run(place)
            >
                <span class="option-words"><JobText text=words /></span>
                <span class="muted">{group}</span>
            </li>
        }
    };
    let count = Memo::new(move |_| list.with(Vec::len));
    let empty = Memo::new(move |_| count.get() == 0);
    view! {
        <dialog
            class="dialog palette"
            node_ref=dialog
            aria-label="Go to or do"
            on:close=move |_| {
                if !is_open() {
                    shown.set(false);
                }
            }
            on:click=move |event| {
                // A press beside the palette is one on the dialog itself.
                if dom::is_itself(event.target(), "dialog.palette") {
                    shown.set(false);
                }
            }
        >
            <div class="palette-body">
                <input
                    class="input"
                    role="combobox"
                    aria-label="Page, queue, action or id"
                    aria-expanded=move || (!empty.get()).to_string()
                    aria-controls="palette-list"
                    aria-autocomplete="list"
                    aria-activedescendant=move || (!empty.get()).then(|| option_id(chosen.get()))
                    placeholder="Go to a page, queue or id, or do something"
                    autocomplete="off"
                    spellcheck="false"
                    autofocus
                    prop:value=move || text.get()
                    on:input=move |event| {
                        text.set(event_target_value(&event));
                        at.set(0);
                    }
                    on:keydown=press
                />
                <ul id="palette-list" class="options" role="listbox" aria-label="Found">
                    {move || (0..count.get()).map(option).collect_view()}
                </ul>
                <p class="muted palette-none" role="status">
                    {move || empty.get().then_some("Nothing fits. A part of a worker_id, of a page's name or an id does.")}
                </p>
            </div>
        </dialog>
    }
}

fn option_id(place: usize) -> String {
    format!("palette-option-{place}")
}

/// True for a control that is seen and takes a press now.
fn is_usable(control: &HtmlElement) -> bool {
    control.offset_parent().is_some() && control.get_attribute("aria-disabled").is_none()
}

/// Entries of the present page, of all pages and queues.
fn all_entries(controls: &[HtmlElement], views: Vec<View>, worker_ids: Vec<String>) -> Vec<Entry> {
    let entry = |group, words, target| Entry { group, words, target };
    let words = |control: &HtmlElement| {
        let label = control.get_attribute("aria-label").filter(|label| !label.is_empty());
        label.or_else(|| control.text_content()).unwrap_or_default().trim().to_owned()
    };
    let pressed = controls.iter().enumerate().map(|(at, it)| entry(Group::Action, words(it), Target::Press(at)));
    let mut all: Vec<Entry> = pressed.filter(|it| !it.words.is_empty()).collect();
    all.push(entry(Group::Action, "Show all keys".to_owned(), Target::Keys));
    all.extend(PLACES.iter().map(|it| entry(Group::Page, it.word.to_owned(), Target::Open(it.href.to_owned()))));
    all.extend(views.into_iter().map(|View { name, address }| entry(Group::View, name, Target::Open(address))));
    all.extend(worker_ids.into_iter().map(|id| {
        let page = queue::page(&id);
        entry(Group::Queue, id, Target::Open(page))
    }));
    all
}
