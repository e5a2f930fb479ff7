//! Entries of the browser's history. Each keeps the position to which its page was scrolled, so that Back, Forward and
//! a reload lead there again; and the address bar names the page that is shown.
//!
//! The browser cannot restore positions by itself: when it tries, the rows are not there yet.

use std::{cell::RefCell, rc::Rc};

use js_sys::{Array, Object, Reflect};
use leptos::prelude::*;
use leptos_router::hooks::use_location;
use serde::{Deserialize, Serialize};
use wasm_bindgen::{JsCast as _, JsValue, closure::Closure};
use web_sys::{Element, MutationObserver, MutationObserverInit, ScrollRestoration};

use crate::{browser::dom, model::recent::Recent};

/// Name in the session storage under which positions are kept.
const POSITIONS: &str = "positions";
/// Name of the property of a history entry's state that identifies the entry.
const ENTRY: &str = "entry";
/// Elements of a page that scroll by themselves.
const FRAMES: &str = "main .scroll-x";
/// Heading that every page has.
const HEADING: &str = "main h1";
/// Placeholders of content that is loading.
const LOADING: &str = "main .skeleton, main .bone";

/// Position in pixels to which a page, and the frames of its tables, are scrolled.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Position {
    page: f64,
    frames: Vec<f64>,
}

impl Position {
    fn read() -> Self {
        let frames = frames().into_iter().map(|frame| f64::from(frame.scroll_top())).collect();
        Self { page: window().scroll_y().unwrap_or_default(), frames }
    }

    fn apply(&self) {
        window().scroll_to_with_x_and_y(0.0, self.page);
        for (frame, top) in frames().into_iter().zip(&self.frames) {
            frame.set_scroll_top(*top as i32);
        }
    }
}

fn frames() -> Vec<Element> {
    dom::all(FRAMES)
}

#[derive(Default)]
struct Positions {
    known: Recent<Position>,
    /// Position that is restored as soon as the page has loaded what it shows, unless the person moves it before.
    wanted: Option<Position>,
}

/// Remembers the position of every entry of the history, and restores it when the person comes back to the entry.
pub fn keep_positions() {
    if let Ok(history) = window().history() {
        let _ = history.set_scroll_restoration(ScrollRestoration::Manual);
    }
    let known = dom::kept::<Recent<Position>>(POSITIONS).unwrap_or_default();
    let positions = Rc::new(RefCell::new(Positions { known, wanted: None }));

    let restore = {
        let positions = positions.clone();
        let watch = watch(positions.clone());
        move |otherwise: Option<Position>| {
            let known = entry().and_then(|entry| positions.borrow().known.get(&entry).cloned());
            if let Some(position) = known.or(otherwise) {
                positions.borrow_mut().wanted = Some(position);
                watch();
            }
        }
    };
    restore(None);
    dom::listen("popstate", move |_| restore(Some(Position::default())));
    for moves in ["wheel", "touchstart", "pointerdown", "keydown"] {
        let positions = positions.clone();
        dom::listen(moves, move |_| positions.borrow_mut().wanted = None);
    }
    let noted = positions.clone();
    dom::listen("scroll", move |_| {
        let mut positions = noted.borrow_mut();
        if positions.wanted.is_none()
            && let Some(entry) = entry().or_else(name_entry)
        {
            positions.known.put(entry, Position::read());
        }
    });
    dom::listen("pagehide", move |_| dom::keep(POSITIONS, &positions.borrow().known));
}

/// Function that restores the wanted position, now and after each change of the page, until the page has loaded.
fn watch(positions: Rc<RefCell<Positions>>) -> impl Fn() {
    let observer = Rc::new(RefCell::new(None::<MutationObserver>));
    let attempt = {
        let observer = observer.clone();
        move || {
            let Some(wanted) = positions.borrow().wanted.clone() else { return disconnect(&observer) };
            wanted.apply();
            if exists(HEADING) && !exists(LOADING) {
                positions.borrow_mut().wanted = None;
                disconnect(&observer);
            }
        }
    };
    // A change is often followed by others at once: the page is complete in the next frame.
    let soon = move || request_animation_frame(attempt.clone());
    let changed = Closure::<dyn FnMut(Array)>::new({
        let soon = soon.clone();
        move |_| soon()
    });
    *observer.borrow_mut() = MutationObserver::new(changed.into_js_value().unchecked_ref()).ok();
    move || {
        if let (Some(observer), Some(body)) = (observer.borrow().as_ref(), document().body()) {
            let options = MutationObserverInit::new();
            options.set_child_list(true);
            options.set_subtree(true);
            let _ = observer.observe_with_options(&body, &options);
        }
        soon();
    }
}

fn exists(selector: &str) -> bool {
    document().query_selector(selector).is_ok_and(|found| found.is_some())
}

fn disconnect(observer: &RefCell<Option<MutationObserver>>) {
    if let Some(observer) = observer.borrow().as_ref() {
        observer.disconnect();
    }
}

/// Name of the present entry of the history; `None` when it has none yet.
fn entry() -> Option<String> {
    let state = window().history().and_then(|history| history.state()).ok()?;
    Reflect::get(&state, &ENTRY.into()).ok()?.as_string()
}

/// Gives the present entry of the history a name.
fn name_entry() -> Option<String> {
    let name = uuid::Uuid::new_v4().to_string();
    let state = Object::new();
    Reflect::set(&state, &ENTRY.into(), &JsValue::from_str(&name)).ok()?;
    window().history().and_then(|history| history.replace_state(&state, "")).ok()?;
    Some(name)
}

/// Corrects the address bar. The router forgets to add an entry to the history when the person has gone back and
/// forward before, and opens the page to which they had gone back.
#[component]
pub fn Address() -> impl IntoView {
    let location = use_location();
    let shown = Memo::new(move |_| {
        let search = location.search.get();
        location.pathname.get() + if search.is_empty() { "" } else { "?" } + &search
    });
    Effect::new(move |_| {
        let address = shown.get();
        // By the next frame, the router has added its entry.
        request_animation_frame(move || {
            let location = window().location();
            let bar = location.pathname().unwrap_or_default() + &location.search().unwrap_or_default();
            if shown.try_get_untracked().is_some_and(|shown| shown == address && shown != bar)
                && let Ok(history) = window().history()
            {
                let _ = history.push_state_with_url(&JsValue::NULL, "", Some(&address));
            }
        });
    });
}
