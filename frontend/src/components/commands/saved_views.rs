//! Saved views of a list: links to them, and the button that saves the present one.

use std::sync::Arc;

use leptos::prelude::*;
use leptos_router::{components::A, hooks::use_location};

use crate::{
    browser::views::SavedViews,
    components::{
        confirm::{Confirm, Question},
        icon::Icon,
        job_text::JobText,
    },
    model::{
        commands::views::{self, View},
        visible::isolated,
    },
    toast::Toasts,
};

/// Button that saves the present address of the list under a name.
#[component]
pub fn SaveView() -> impl IntoView {
    let (saved, confirm, toasts) = (SavedViews::get(), Confirm::get(), Toasts::get());
    let location = use_location();
    let ask = move |_| {
        let address = views::address(&location.pathname.get_untracked(), &location.search.get_untracked());
        confirm.ask(Question {
            title: "Save this view?".into(),
            text: "Its filters are kept in this browser under a name, here and in the palette (Ctrl K). A view of the \
                   same name is replaced."
                .into(),
            action: "Save view".into(),
            destroys: false,
            input: "Name",
            then: Arc::new(move |name| {
                if saved.save(&name, &address) {
                    toasts.good("View saved");
                } else {
                    toasts.bad("This browser keeps nothing for this site: the view is gone with this tab");
                }
            }),
        });
    };
    view! {
        <button type="button" class="button" on:click=ask>
            <Icon name="flag" />
            "Save view"
        </button>
    }
}

/// Links to the saved views of the list at `path`, each with a button that removes it.
#[component]
pub fn ViewList(path: &'static str) -> impl IntoView {
    let saved = SavedViews::get();
    let mine = Memo::new(move |_| {
        let of_list = |view: &&View| view.address.split('?').next() == Some(path);
        saved.0.with(|all| all.iter().filter(of_list).cloned().collect::<Vec<_>>())
    });
    view! {
        <Show when=move || !mine.with(Vec::is_empty)>
            <ul class="views" aria-label="Saved views">
                <For each=move || mine.get() key=|view| format!("{} {}", view.name, view.address) let:view>
                    <OneView view />
                </For>
            </ul>
        </Show>
    }
}

#[component]
fn OneView(view: View) -> impl IntoView {
    let saved = SavedViews::get();
    let View { name, address } = view;
    let (shown, label) = (name.clone(), format!("Remove view {}", isolated(&name)));
    view! {
        <li>
            <A href=address>
                <JobText text=shown />
            </A>
            <button
                type="button"
                class="button quiet square"
                aria-label=label
                on:click=move |_| saved.remove(&name)
            >
                <Icon name="close" />
            </button>
        </li>
    }
}
