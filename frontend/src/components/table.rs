//! What all tables share: the outline while they load, and rows that open what they are about.

use gloo_timers::future::TimeoutFuture;
use leptos::{ev::MouseEvent, prelude::*, task::spawn_local};
use leptos_router::{NavigateOptions, hooks::use_navigate};

use crate::dom;

/// A press within this time after a page was turned was meant for what lay under the pointer before, in milliseconds:
/// about as long as people need to see that something has moved.
const SETTLES_MS: u32 = 600;

/// The rows of a table that is not there yet, in grey blocks of the same height.
#[component]
pub fn Skeleton(columns: usize, #[prop(into, default = 8.into())] rows: Signal<usize>) -> impl IntoView {
    let row = move |_| {
        let cells = (0..columns).map(|_| view! { <td><span class="bone"></span></td> }).collect_view();
        view! { <tr class="skeleton" aria-hidden="true">{cells}</tr> }
    };
    (0..rows.get_untracked()).map(row).collect_view()
}

/// Whether the rows have just been replaced because a page was turned: they take no press yet.
#[derive(Clone, Copy)]
pub struct Turning {
    turns: RwSignal<u32>,
    settled: RwSignal<u32>,
}

impl Turning {
    pub fn provide() {
        provide_context(Self { turns: RwSignal::new(0), settled: RwSignal::new(0) });
    }

    pub fn get() -> Self {
        expect_context()
    }

    pub fn is_under_way(self) -> bool {
        self.turns.get() != self.settled.get()
    }

    pub fn begin(self) {
        self.turns.update(|turns| *turns = turns.wrapping_add(1));
    }

    /// The other page's rows are there, or will not come.
    pub fn end(self) {
        let turn = self.turns.get_untracked();
        if turn != self.settled.get_untracked() {
            spawn_local(async move {
                TimeoutFuture::new(SETTLES_MS).await;
                self.settled.set(turn);
            });
        }
    }
}

/// A click anywhere in a row opens `href`, as its link does; with Ctrl or ⌘ in a new tab.
pub fn opens(href: String) -> impl Fn(MouseEvent) + Clone {
    let navigate = use_navigate();
    move |event| {
        // The second of a double click may have begun on something else.
        if event.detail() > 1 || dom::acts_by_itself(event.target()) {
            return;
        }
        if event.ctrl_key() || event.meta_key() {
            let _ = window().open_with_url_and_target(&href, "_blank");
        } else {
            navigate(&href, NavigateOptions::default());
        }
    }
}
