//! Newer and older pages of a keyset list. Going back is known for the pages that were come through.

use std::collections::HashMap;

use leptos::prelude::*;
use leptos_router::{NavigateOptions, hooks::use_navigate};

use super::icon::Icon;
use crate::model::filter::Filter;

#[component]
pub fn Pager(
    path: &'static str,
    #[prop(into)] filter: Signal<Filter>,
    /// "" = this is the last page.
    #[prop(into)]
    next: Signal<String>,
) -> impl IntoView {
    let trail = RwSignal::new(HashMap::<String, String>::new());
    let navigate = use_navigate();
    let go = Callback::new(move |page: String| {
        navigate(&Filter { page, ..filter.get_untracked() }.url(path), NavigateOptions::default());
    });
    let at = Memo::new(move |_| filter.get().page);
    let newer = move || trail.with(|trail| trail.get(&at.get()).cloned());
    let older = move |_| {
        let token = next.get_untracked();
        trail.update(|trail| drop(trail.insert(token.clone(), at.get_untracked())));
        go.run(token);
    };
    view! {
        <Show when=move || !at.get().is_empty() || !next.get().is_empty()>
            <nav class="pager" aria-label="Pages">
                <button
                    type="button"
                    class="button"
                    class:gone=move || at.get().is_empty()
                    on:click=move |_| go.run(String::new())
                >
                    <Icon name="first" />
                    "Newest"
                </button>
                <button
                    type="button"
                    class="button"
                    class:gone=move || newer().is_none()
                    on:click=move |_| newer().into_iter().for_each(|page| go.run(page))
                >
                    <Icon name="left" />
                    "Newer"
                </button>
                <button type="button" class="button" class:gone=move || next.get().is_empty() on:click=older>
                    "Older"
                    <Icon name="right" />
                </button>
            </nav>
        </Show>
    }
}
