//! Direct calls of browser APIs, each of which does nothing where the browser lacks the API; and the estimate of the
//! server's time, by which the page shows how long ago something was.

use std::cell::Cell;

use js_sys::{Array, Date};
use leptos::prelude::{document, window};
use serde::{Serialize, de::DeserializeOwned};
use wasm_bindgen::{JsCast as _, JsValue, closure::Closure};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    Blob, BlobPropertyBag, Element, Event, EventTarget, HtmlAnchorElement, HtmlElement, ResizeObserver, Storage, Url,
};

use crate::{
    browser::zone,
    model::{clock::Clock, time},
};

/// Number of the middle button in mouse events.
pub const MIDDLE: i16 = 1;

thread_local! {
    /// Server clock, as estimated from answers.
    static CLOCK: Cell<Clock> = const { Cell::new(Clock::NEW) };
}

/// Origin of the server that sent the page: `http://host:port`.
pub fn origin() -> String {
    window().location().origin().unwrap_or_default()
}

/// Server's `host:port`, with the port written out, and whether the page came by HTTPS.
pub fn authority() -> (String, bool) {
    let location = window().location();
    let secure = location.protocol().is_ok_and(|protocol| protocol == "https:");
    let host = location.host().unwrap_or_default();
    let authority = if host.contains(':') { host } else { format!("{host}:{}", if secure { 443 } else { 80 }) };
    (authority, secure)
}

/// Current time by the server's clock, or by the browser's before the first answer, in milliseconds since 1970.
pub fn now() -> i64 {
    CLOCK.get().at(ticks()).unwrap_or_else(browser_now)
}

/// Current time by the browser's clock, which may be wrong, in milliseconds since 1970.
pub fn browser_now() -> i64 {
    Date::now() as i64
}

/// Milliseconds since the page was opened, unaffected by changes of the browser's clock.
pub fn ticks() -> i64 {
    window().performance().map_or_else(browser_now, |it| it.now() as i64)
}

/// Updates the server clock from the time in an answer that has just come. `asked` is the value of [`ticks`] when it
/// was requested.
pub fn hear_time(server_ms: i64, asked: i64) {
    let mut clock = CLOCK.get();
    if clock.hear(server_ms, asked, ticks()) {
        CLOCK.set(clock);
    }
}

/// Time zone, such as `Europe/Berlin`; "" = the browser does not tell.
pub fn time_zone() -> String {
    let options = js_sys::Intl::DateTimeFormat::new(&Array::new(), &js_sys::Object::new()).resolved_options();
    js_sys::Reflect::get(&options, &"timeZone".into()).ok().and_then(|it| it.as_string()).unwrap_or_default()
}

/// Path of the current page, such as `/jobs/0192f5a6-…`.
pub fn path() -> String {
    window().location().pathname().unwrap_or_default()
}

/// Date, time and zone, such as `2026-11-24 14:02:03 UTC+01:00`, in the zone that the person has chosen.
pub fn local_time(ms: i64) -> String {
    time::full(ms, chosen_offset(ms))
}

/// Time of day, such as `14:02`, in the zone that the person has chosen.
pub fn local_clock(ms: i64) -> String {
    time::clock(ms, chosen_offset(ms))
}

/// Date, time and zone by the browser's time zone, in which times are typed, whatever zone is chosen.
pub fn browser_time(ms: i64) -> String {
    time::full(ms, offset(ms))
}

fn chosen_offset(ms: i64) -> i64 {
    if zone::is_utc() { 0 } else { offset(ms) }
}

fn offset(ms: i64) -> i64 {
    -(Date::new(&JsValue::from_f64(ms as f64)).get_timezone_offset() as i64)
}

/// Parses the value of an `<input type="datetime-local">`.
pub fn parse_local(text: &str) -> Option<i64> {
    let ms = Date::parse(text);
    ms.is_finite().then_some(ms as i64)
}

/// True while a dialog is open.
pub fn has_dialog() -> bool {
    document().query_selector("dialog[open]").is_ok_and(|found| found.is_some())
}

pub fn hidden() -> bool {
    document().hidden()
}

pub fn local_storage() -> Option<Storage> {
    window().local_storage().ok().flatten()
}

/// Reads a value from the session storage of the tab, which survives a reload.
pub fn kept<T: DeserializeOwned>(name: &str) -> Option<T> {
    let text = session_storage()?.get_item(name).ok().flatten()?;
    serde_json::from_str(&text).ok()
}

/// Writes a value to the session storage of the tab.
pub fn keep<T: Serialize>(name: &str, value: &T) {
    if let (Some(storage), Ok(text)) = (session_storage(), serde_json::to_string(value)) {
        let _ = storage.set_item(name, &text);
    }
}

fn session_storage() -> Option<Storage> {
    window().session_storage().ok().flatten()
}

/// Calls `heard` at every event of this name for as long as the page lives, before any element hears of the event.
pub fn listen(event: &str, heard: impl FnMut(Event) + 'static) {
    let callback = Closure::<dyn FnMut(Event)>::new(heard).into_js_value();
    let _ = window().add_event_listener_with_callback_and_bool(event, callback.unchecked_ref(), true);
}

/// Watch over the width of an element. It ends when it is dropped.
pub struct WidthWatch {
    observer: Option<ResizeObserver>,
    /// Function that the observer calls, which must live as long.
    _callback: Closure<dyn FnMut()>,
}

impl WidthWatch {
    /// Calls `changed` with the width of `element` in pixels, soon for the first time and then whenever it changes.
    pub fn start(element: &Element, changed: impl Fn(f64) + 'static) -> Self {
        let watched = element.clone();
        let callback = Closure::<dyn FnMut()>::new(move || changed(watched.get_bounding_client_rect().width()));
        let observer = ResizeObserver::new(callback.as_ref().unchecked_ref()).ok();
        if let Some(observer) = &observer {
            observer.observe(element);
        }
        Self { observer, _callback: callback }
    }
}

impl Drop for WidthWatch {
    fn drop(&mut self) {
        if let Some(observer) = &self.observer {
            observer.disconnect();
        }
    }
}

pub fn focus(id: &str) {
    if let Some(element) = document().get_element_by_id(id).and_then(|it| it.dyn_into::<HtmlElement>().ok()) {
        let _ = element.focus();
    }
}

/// True when `target` is inside a link or control that handles a click itself, or when text is selected.
pub fn acts_by_itself(target: Option<EventTarget>) -> bool {
    let inside = is_inside(target, "a, button, input, label, select, summary");
    let selecting = window().get_selection().ok().flatten().is_some_and(|selection| !selection.is_collapsed());
    inside || selecting
}

/// True when `target` is, or is in, an element that fits the CSS selector.
pub fn is_inside(target: Option<EventTarget>, selector: &str) -> bool {
    target.and_then(|it| it.dyn_into::<Element>().ok()).is_some_and(|it| it.closest(selector).ok().flatten().is_some())
}

/// True when `target` is an element that fits the CSS selector, and not one inside of it.
pub fn is_itself(target: Option<EventTarget>, selector: &str) -> bool {
    target.and_then(|it| it.dyn_into::<Element>().ok()).is_some_and(|it| it.matches(selector).unwrap_or(false))
}

/// Elements of the page that fit the CSS selector, in its order.
pub fn all(selector: &str) -> Vec<Element> {
    let found = document().query_selector_all(selector).ok();
    let element = |found: &web_sys::NodeList, at| found.item(at)?.dyn_into::<Element>().ok();
    found.map(|found| (0..found.length()).filter_map(|at| element(&found, at)).collect()).unwrap_or_default()
}

/// Opens `href` in a new tab. In the handler of a click with Ctrl, ⌘, Shift or the middle button, the browser puts it
/// where it puts a link that gets such a click: into the background, or into a new window.
pub fn open_apart(href: &str) {
    let _ = window().open_with_url_and_target_and_features(href, "_blank", "noopener");
}

/// Copies `text` to the clipboard; false when the browser refuses.
pub async fn copy(text: &str) -> bool {
    // Browsers offer the clipboard to secure origins only.
    let navigator: JsValue = window().navigator().into();
    if js_sys::Reflect::get(&navigator, &"clipboard".into()).map_or(true, |it| it.is_undefined()) {
        return false;
    }
    JsFuture::from(window().navigator().clipboard().write_text(text)).await.is_ok()
}

/// Lets the browser save `text` as a file.
pub fn download(name: &str, text: &str) {
    let save = || -> Result<(), JsValue> {
        let kind = BlobPropertyBag::new();
        kind.set_type("application/json");
        let blob = Blob::new_with_str_sequence_and_options(&Array::of1(&text.into()), &kind)?;
        let url = Url::create_object_url_with_blob(&blob)?;
        let link: HtmlAnchorElement = document().create_element("a")?.unchecked_into();
        link.set_href(&url);
        link.set_download(name);
        link.click();
        Url::revoke_object_url(&url)
    };
    let _ = save();
}

/// Removes the placeholder that was shown while the app loaded.
pub fn started() {
    if let Some(boot) = document().get_element_by_id("boot") {
        boot.remove();
    }
}

/// Tells the person that the app has stopped because of a bug, so that they do not click on.
pub fn crashed(message: &str) {
    leptos::logging::error!("{message}");
    let show = || -> Result<(), JsValue> {
        let note = document().create_element("p")?;
        note.set_class_name("crash");
        note.set_attribute("role", "alert")?;
        note.set_text_content(Some("The dashboard has stopped because of a bug. Reload the page to go on."));
        document().body().ok_or(JsValue::NULL)?.append_child(&note)?;
        Ok(())
    };
    let _ = show();
}
