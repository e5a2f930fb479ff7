//! Submit form as a drawer over any page. A native modal `<dialog>` keeps the focus inside and returns it.

use std::sync::Arc;

use leptos::{ev, html, prelude::*};
use leptos_router::hooks::use_location;

use super::form::SubmitForm;
use crate::{
    browser::dom,
    components::{
        confirm::{Confirm, Question},
        field::control_id,
        icon::Icon,
    },
};

/// Event of the window that opens the drawer.
const EVENT: &str = "jobqueue-submit";
/// Address of the page that holds the form itself.
const PAGE: &str = "/submit";

#[derive(Clone, Copy)]
pub struct SubmitDrawer {
    is_open: RwSignal<bool>,
    /// Whether closing would lose something that is typed.
    pub would_lose: RwSignal<bool>,
}

impl SubmitDrawer {
    pub fn provide() {
        let drawer = Self { is_open: RwSignal::new(false), would_lose: RwSignal::new(false) };
        provide_context(drawer);
        dom::listen(EVENT, move |_| drawer.open());
    }

    pub fn get() -> Self {
        expect_context()
    }

    /// Opens the drawer. On the page that holds the form, and over another dialog, it stays closed.
    pub fn open(self) {
        if dom::path() == PAGE {
            dom::focus(&control_id("worker_id"));
        } else if !dom::has_dialog() {
            self.is_open.set(true);
        }
    }
}

/// Button of the frame that opens the drawer.
#[component]
pub fn SubmitButton() -> impl IntoView {
    let drawer = SubmitDrawer::get();
    view! {
        <button
            type="button"
            class="button submit-button"
            aria-haspopup="dialog"
            title="Submit jobs"
            aria-keyshortcuts="n"
            on:click=move |_| drawer.open()
        >
            <Icon name="submit" />
            <span>"Submit"</span>
        </button>
    }
}

#[component]
pub fn Drawer() -> impl IntoView {
    let SubmitDrawer { is_open, would_lose } = SubmitDrawer::get();
    let confirm = Confirm::get();
    let dialog = NodeRef::<html::Dialog>::new();
    Effect::new(move |_| {
        let Some(dialog) = dialog.get() else { return };
        if is_open.get() && !dialog.open() {
            let _ = dialog.show_modal();
            // The form is there in the next frame.
            request_animation_frame(|| dom::focus(&control_id("worker_id")));
        }
    });
    let close = move || dialog.get_untracked().into_iter().for_each(|dialog| dialog.close());
    let ask = move || {
        if !would_lose.get_untracked() {
            return close();
        }
        confirm.ask(Question {
            title: "Close without submitting?".into(),
            text: "The lines are too large to be kept, and are lost when the drawer closes.".into(),
            action: "Close".into(),
            destroys: true,
            input: "",
            then: Arc::new(move |_| close()),
        });
    };
    // Navigation leads to a page that the drawer would hide.
    let at = use_location();
    Effect::new(move |before: Option<()>| {
        at.pathname.with(|_| ());
        at.search.with(|_| ());
        if before.is_some() {
            close();
        }
    });
    let cancel = move |event: ev::Event| {
        // A cancel of the file picker bubbles up to the dialog.
        if event.target() == event.current_target() {
            event.prevent_default();
            ask();
        }
    };
    view! {
        <dialog
            class="drawer"
            node_ref=dialog
            aria-labelledby="drawer-title"
            on:cancel=cancel
            on:close=move |event: ev::Event| {
                if event.target() == event.current_target() {
                    is_open.set(false);
                }
            }
        >
            <Show when=move || is_open.get()>
                <header class="drawer-head">
                    <h2 id="drawer-title">"Submit"</h2>
                    <button
                        type="button"
                        class="button quiet square"
                        aria-label="Close"
                        title="Close"
                        on:click=move |_| ask()
                    >
                        <Icon name="close" />
                    </button>
                </header>
                <SubmitForm />
            </Show>
        </dialog>
    }
}
