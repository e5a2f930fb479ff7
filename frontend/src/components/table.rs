//! Common parts of all tables: the skeleton while they load, rows that open a page, and the pause after turning a page,
//! in which rows that were just replaced take no press.

use gloo_timers::future::TimeoutFuture;
use leptos::{ev::MouseEvent, prelude::*, task::spawn_local};
use leptos_router::{NavigateOptions, hooks::use_navigate};

use crate::browser::dom;

/// Time in milliseconds after a page was turned in which a press was meant for a row that lay under the pointer before:
/// about as long as people need to see that something has moved.
const SETTLES_MS: u32 = 600;

/// Skeleton of a table that is loading: grey blocks of the same height as its rows. `below` is the number of columns that
/// lie below the others where the table is narrow.
#[component]
pub fn Skeleton(
    columns: usize,
    #[prop(optional)] below: usize,
    #[prop(into, default = 8.into())] rows: Signal<usize>,
) -> impl IntoView {
    let row = move |_| {
        let cell = |at| view! { <td class:below=(at >= columns - below)><span class="bone"></span></td> };
        view! { <tr class="skeleton" aria-hidden="true">{(0..columns).map(cell).collect_view()}</tr> }
    };
    (0..rows.get_untracked()).map(row).collect_view()
}

/// State of turning a page. Rows that have just been replaced take no press yet.
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

    /// Called when the other page's rows are there, or will not come. The turn is over [`SETTLES_MS`] later.
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

/// Handler of a row's `click` and `auxclick`, which opens `href` as a link does: here, or apart from this page with the
/// middle button, Ctrl, ⌘ or Shift.
pub fn opens(href: String) -> impl Fn(MouseEvent) + Clone {
    let navigate = use_navigate();
    move |event| {
        let apart = event.button() == dom::MIDDLE || event.ctrl_key() || event.meta_key() || event.shift_key();
        // The right button is none of a link's, and the first click of a double click may have hit something else.
        if event.button() > dom::MIDDLE || event.detail() > 1 || dom::acts_by_itself(event.target()) {
            return;
        }
        if apart {
            event.prevent_default();
            dom::open_apart(&href);
        } else {
            navigate(&href, NavigateOptions::default());
        }
    }
}

/// Keeps a press of the middle button on a row from beginning to scroll the page, as browsers do where there is no link.
pub fn keep_still(press: &MouseEvent) {
    if press.button() == dom::MIDDLE && dom::is_inside(press.target(), "tr.opens") {
        press.prevent_default();
    }
}
