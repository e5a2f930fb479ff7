//! What all tables share: the outline while they load, and rows that open what they are about.

use leptos::{ev::MouseEvent, prelude::*};
use leptos_router::{NavigateOptions, hooks::use_navigate};

use crate::dom;

/// The rows of a table that is not there yet, in grey blocks of the same height.
#[component]
pub fn Skeleton(columns: usize, #[prop(default = 8)] rows: usize) -> impl IntoView {
    let row = move |_| {
        let cells = (0..columns).map(|_| view! { <td><span class="bone"></span></td> }).collect_view();
        view! { <tr class="skeleton" aria-hidden="true">{cells}</tr> }
    };
    (0..rows).map(row).collect_view()
}

/// A click anywhere in a row opens `href`, as its link does; with Ctrl or ⌘ in a new tab.
pub fn opens(href: String) -> impl Fn(MouseEvent) + Clone {
    let navigate = use_navigate();
    move |event| {
        if dom::acts_by_itself(event.target()) {
            return;
        }
        if event.ctrl_key() || event.meta_key() {
            let _ = window().open_with_url_and_target(&href, "_blank");
        } else {
            navigate(&href, NavigateOptions::default());
        }
    }
}
