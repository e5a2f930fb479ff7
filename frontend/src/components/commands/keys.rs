//! Keys: a listener for the whole page, and the dialog that shows what each does. They can be switched off, because a
//! person who speaks to the browser may press them unawares.

use leptos::{ev, html, prelude::*};
use leptos_router::{NavigateOptions, hooks::use_navigate};
use wasm_bindgen::JsCast as _;
use web_sys::{Element, HtmlElement, KeyboardEvent};

use crate::{
    browser::dom,
    model::commands::keys::{Command, Keys, help},
};

/// Name in the local storage under which the choice is kept.
const CHOICE: &str = "keys";
const OFF: &str = "off";
/// Elements in which a key is text, or has a meaning of its own.
const TYPING: &str = "input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable], [role=slider]";
/// Rows of lists.
const ROWS: &str = "main tr.opens";

/// Whether the keys are on, and whether the dialog is asked for.
#[derive(Clone, Copy)]
pub struct KeyState {
    on: RwSignal<bool>,
    shown: RwSignal<bool>,
}

impl KeyState {
    pub fn provide() {
        let off = dom::local_storage().and_then(|it| it.get_item(CHOICE).ok().flatten()).is_some_and(|it| it == OFF);
        provide_context(Self { on: RwSignal::new(!off), shown: RwSignal::new(false) });
    }

    pub fn get() -> Self {
        expect_context()
    }

    fn choose(self, on: bool) {
        self.on.set(on);
        if let Some(storage) = dom::local_storage() {
            let _ = if on { storage.remove_item(CHOICE) } else { storage.set_item(CHOICE, OFF) };
        }
    }

    /// Opens the dialog.
    pub fn show(self) {
        self.shown.set(true);
    }
}

/// Listener for the keys, and their dialog.
#[component]
pub fn KeyDialog() -> impl IntoView {
    let state = KeyState::get();
    let navigate = use_navigate();
    let keys = StoredValue::new(Keys::default());
    window_event_listener(ev::keydown, move |event| {
        if !state.on.get_untracked() || is_meant_otherwise(&event) {
            return;
        }
        let command = keys.try_update_value(|keys| keys.press(&event.key(), dom::ticks())).flatten();
        let Some(command) = command else { return };
        let done = match command {
            Command::Go(href) => {
                navigate(href, NavigateOptions::default());
                true
            }
            Command::Press(key) => press(key),
            Command::Next => move_focus(1),
            Command::Previous => move_focus(-1),
            Command::Select => select(),
            Command::Help => {
                state.show();
                true
            }
        };
        if done {
            event.prevent_default();
        }
    });

    let dialog = NodeRef::<html::Dialog>::new();
    Effect::new(move |_| {
        let Some(dialog) = dialog.get() else { return };
        if state.shown.get() && !dialog.open() {
            let _ = dialog.show_modal();
        }
    });
    let group = |(title, keys): (&'static str, Vec<(String, &'static str)>)| {
        let row = |(key, words): (String, &'static str)| {
            let caps = key.split(' ').map(|cap| view! { <kbd>{cap.to_owned()}</kbd> }).collect_view();
            view! {
                <div>
                    <dt>{caps}</dt>
                    <dd>{words}</dd>
                </div>
            }
        };
        view! {
            <section>
                <h3>{title}</h3>
                <dl>{keys.into_iter().map(row).collect_view()}</dl>
            </section>
        }
    };
    view! {
        <dialog
            class="dialog keys"
            node_ref=dialog
            aria-labelledby="keys-title"
            on:close=move |_| state.shown.set(false)
        >
            <h2 id="keys-title">"Keys"</h2>
            <div class="key-groups">{help().into_iter().map(group).collect_view()}</div>
            <label class="choice">
                <input
                    type="checkbox"
                    prop:checked=move || state.on.get()
                    on:change=move |event| state.choose(event_target_checked(&event))
                />
                "Use keys without Ctrl"
            </label>
            <form method="dialog" class="dialog-actions">
                <button class="button">"Close"</button>
            </form>
        </dialog>
    }
}

/// True for a key that is no command: typed text, part of another shortcut, or pressed while a dialog is open.
fn is_meant_otherwise(event: &KeyboardEvent) -> bool {
    event.default_prevented()
        || event.is_composing()
        || event.ctrl_key()
        || event.meta_key()
        || event.alt_key()
        || dom::is_inside(event.target(), TYPING)
        || first("dialog[open]").is_some()
}

fn first(selector: &str) -> Option<HtmlElement> {
    document().query_selector(selector).ok().flatten()?.dyn_into().ok()
}

/// Presses the control that names the key: of the page, or else of the frame around it. A field takes the focus.
fn press(key: char) -> bool {
    let control = |within: &str| first(&format!("{within} [aria-keyshortcuts='{key}']"));
    let Some(control) = control("main").or_else(|| control("body")) else { return false };
    if control.tag_name() == "INPUT" {
        let _ = control.focus();
    } else {
        control.click();
    }
    true
}

/// Rows of the page, and the place of the one with the focus.
fn rows() -> (Vec<Element>, Option<usize>) {
    let rows = dom::all(ROWS);
    let active = document().active_element().and_then(|it| it.closest("tr.opens").ok().flatten());
    let at = active.and_then(|active| rows.iter().position(|row| *row == active));
    (rows, at)
}

/// Moves the focus by rows, to the link of the row.
fn move_focus(by: isize) -> bool {
    let (rows, at) = rows();
    let to = match at {
        Some(at) => at.checked_add_signed(by),
        None => (!rows.is_empty()).then_some(0),
    };
    let row = to.and_then(|to| rows.get(to));
    let link = row.and_then(|row| row.query_selector("td.lead a, td a").ok().flatten());
    link.and_then(|link| link.dyn_into::<HtmlElement>().ok()).is_some_and(|link| link.focus().is_ok())
}

/// Selects the row with the focus, or takes it out of the selection.
fn select() -> bool {
    let (rows, at) = rows();
    let row = at.and_then(|at| rows.get(at));
    let choice = row.and_then(|row| row.query_selector("input[type=checkbox]").ok().flatten());
    let Some(choice) = choice.and_then(|it| it.dyn_into::<HtmlElement>().ok()) else { return false };
    choice.click();
    true
}
