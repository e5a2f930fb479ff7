//! Shell around every page: the navigation rail, and the top bar with search and live state.

use leptos::{ev::SubmitEvent, html, prelude::*};
use leptos_router::{
    NavigateOptions,
    hooks::{use_location, use_navigate},
};

use super::{commands::palette::PaletteButton, heading::Title, icon::Icon};
use crate::{
    browser::{dom, theme::ThemeButton},
    calls::{
        id_search::{self, ShownIds},
        in_flight::InFlight,
    },
    feeds::{counts_feed::CountsFeed, live::Live},
    model::{
        commands::places::{self, Place},
        id_query::IdQuery,
    },
    pages::submit::drawer::SubmitButton,
    toast::Toasts,
};

/// Key of the call that looks up an id.
const LOOKUP: &str = "lookup of an id";

/// Datalist of the known worker_ids, for inputs that refer to it.
#[component]
pub fn WorkerIdList() -> impl IntoView {
    let worker_ids = CountsFeed::get().worker_ids();
    view! {
        <datalist id="worker-ids">
            {move || worker_ids.get().into_iter().map(|id| view! { <option value=id></option> }).collect_view()}
        </datalist>
    }
}

#[component]
pub fn Rail() -> impl IntoView {
    let at = use_location().pathname;
    let group = |(word, places): (&'static str, Vec<Place>)| {
        view! {
            <div class="rail-group" role="group" aria-label=(!word.is_empty()).then_some(word)>
                {(!word.is_empty())
                    .then(|| {
                        view! {
                            <p class="rail-word" aria-hidden="true">
                                {word}
                            </p>
                        }
                    })}
                {places.into_iter().map(|place| view! { <RailLink place at /> }).collect_view()}
            </div>
        }
    };
    view! {
        <nav class="rail" aria-label="Pages">
            <a class="brand" href="/" aria-label="jobqueue, overview">
                <svg class="logo" width="24" height="24" viewBox="0 0 24 24" aria-hidden="true">
                    <rect width="24" height="24" rx="6" />
                    <rect class="bar" x="5" y="6" width="14" height="3" rx="1.5" />
                    <rect class="bar" x="5" y="10.5" width="10" height="3" rx="1.5" />
                    <rect class="bar" x="5" y="15" width="6" height="3" rx="1.5" />
                </svg>
                <span>"jobqueue"</span>
            </a>
            {places::groups().into_iter().map(group).collect_view()}
        </nav>
    }
}

#[component]
fn RailLink(place: Place, at: Memo<String>) -> impl IntoView {
    let counted = place.href == "/errors";
    let letters = CountsFeed::get().dead_letters();
    let badge = move || letters.get().filter(|_| counted);
    view! {
        <a href=place.href aria-current=move || at.with(|at| place.has(at)).then_some("page")>
            <Icon name=place.icon />
            <span>{place.word}</span>
            {move || badge().map(|count| view! { <span class="badge" title="dead letters">{count}</span> })}
        </a>
    }
}

#[component]
pub fn TopBar() -> impl IntoView {
    let title = expect_context::<Title>();
    view! {
        <header class="top">
            <p class="place">{move || title.words.get()}</p>
            <Search />
            <PaletteButton />
            <LiveState />
            <SubmitButton />
            <ThemeButton />
        </header>
    }
}

/// Search box that opens the job or session whose id, or short id, is in the pasted text.
#[component]
fn Search() -> impl IntoView {
    let input = NodeRef::<html::Input>::new();
    let navigate = use_navigate();
    let (toasts, in_flight, shown) = (Toasts::get(), InFlight::get(), ShownIds::get());
    let busy = in_flight.busy(LOOKUP.to_owned());
    let submit = move |event: SubmitEvent| {
        event.prevent_default();
        let Some(input) = input.get_untracked() else { return };
        let text = input.value();
        let Some(query) = IdQuery::find(&text) else {
            if !text.trim().is_empty() {
                toasts.bad(
                    "There is no job id or session id in that; an id looks like 0192f5a6-1000-7000-8000-0000003f2a91, \
                     or in lists like 0192f5a6…3f2a91",
                );
            }
            return;
        };
        let navigate = navigate.clone();
        in_flight.run(vec![LOOKUP.to_owned()], async move {
            match id_search::find(&query, shown).await {
                // Nobody who has typed on meanwhile is taken away.
                Ok(page) if input.value() == text => {
                    input.set_value("");
                    navigate(&page, NavigateOptions::default());
                }
                Ok(_) => {}
                Err(message) => toasts.bad(message),
            }
        });
    };
    view! {
        <form class="search" role="search" on:submit=submit>
            <Icon name="search" />
            <input
                class="input"
                type="search"
                aria-label="Go to a job or session by its id"
                aria-keyshortcuts="/"
                aria-busy=move || busy.get().to_string()
                placeholder="Paste an id"
                autocomplete="off"
                spellcheck="false"
                node_ref=input
            />
        </form>
    }
}

/// Freshness of the page: away since a time, or polling, with the time of the last answer.
#[component]
fn LiveState() -> impl IntoView {
    let live = Live::get();
    move || {
        let (tone, icon, word, title) = match (live.away.get(), live.heard.get()) {
            (Some((since, _)), _) => {
                let title = format!("The server has not answered since {}", dom::local_time(since));
                ("away", "circle", format!("away since {}", dom::local_clock(since)), title)
            }
            (None, Some(heard)) => {
                let title = format!("Asks every 3 s; last answer at {}", dom::local_time(heard));
                ("polling", "half", "polling".to_owned(), title)
            }
            (None, None) => ("polling", "circle", "connecting".to_owned(), String::new()),
        };
        view! {
            <span class=format!("live {tone}") title=title>
                <Icon name=icon />
                {word}
            </span>
        }
    }
}
