//! Pager of a keyset list. It can go back only to pages through which the person has come in this tab, which remembers
//! them when the list is left or loaded again.

use leptos::prelude::*;
use leptos_router::{NavigateOptions, hooks::use_navigate};

use super::{icon::Icon, table::Turning};
use crate::{
    browser::dom,
    model::{filter::Filter, recent::Recent},
};

/// Name in the session storage under which the way is kept: by the address of a page, the token of the one before.
const WAY: &str = "pages";

#[component]
pub fn Pager(
    path: &'static str,
    #[prop(into)] filter: Signal<Filter>,
    /// Token of the next page; "" = this is the last page.
    #[prop(into)]
    next: Signal<String>,
    /// True while the answer for another page is under way; until it has come, no page can be turned.
    busy: RwSignal<bool>,
) -> impl IntoView {
    let way = RwSignal::new(dom::kept::<Recent<String>>(WAY).unwrap_or_default());
    let navigate = use_navigate();
    let turning = Turning::get();
    let at = Memo::new(move |_| filter.get().page);
    let go = Callback::new(move |page: String| {
        // Set here as well as by the list, which learns of the new address only after this press.
        if page == at.get_untracked() || busy.get_untracked() {
            return;
        }
        busy.set(true);
        turning.begin();
        navigate(&Filter { page, ..filter.get_untracked() }.url(path), NavigateOptions::default());
    });
    Effect::new(move |_| {
        if !busy.get() {
            turning.end();
        }
    });
    on_cleanup(move || turning.end());
    let address = move |page: String| Filter { page, ..filter.get() }.url(path);
    let newer = move || way.with(|way| way.get(&address(at.get())).cloned());
    let older = move |_| {
        let token = next.get_untracked();
        if busy.get_untracked() || token.is_empty() {
            return;
        }
        way.update(|way| way.put(untrack(|| address(token.clone())), at.get_untracked()));
        way.with_untracked(|way| dom::keep(WAY, way));
        go.run(token);
    };
    let waits = move || busy.get().then_some("true");
    view! {
        <Show when=move || !at.get().is_empty() || !next.get().is_empty()>
            <nav class="pager" aria-label="Pages">
                <button
                    type="button"
                    class="button"
                    class:gone=move || at.get().is_empty()
                    aria-disabled=waits
                    aria-busy=waits
                    on:click=move |_| go.run(String::new())
                >
                    <Icon name="first" />
                    "Newest"
                </button>
                <button
                    type="button"
                    class="button"
                    class:gone=move || newer().is_none()
                    aria-disabled=waits
                    aria-busy=waits
                    on:click=move |_| newer().into_iter().for_each(|page| go.run(page))
                >
                    <Icon name="left" />
                    "Newer"
                </button>
                <button
                    type="button"
                    class="button"
                    class:gone=move || next.get().is_empty()
                    aria-disabled=waits
                    aria-busy=waits
                    on:click=older
                >
                    "Older"
                    <Icon name="right" />
                </button>
            </nav>
        </Show>
    }
}
