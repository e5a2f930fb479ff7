//! Icon of the sprite in index.html. Screen readers skip it: a word stands beside it or in a label.

use leptos::prelude::*;

#[component]
pub fn Icon(name: &'static str) -> impl IntoView {
    view! {
        <svg class="icon" aria-hidden="true" width="16" height="16">
            <use_ href=format!("#i-{name}") />
        </svg>
    }
}
