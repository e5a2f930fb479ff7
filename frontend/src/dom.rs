//! The few things that are asked of the browser directly. Each does nothing where the browser cannot.

use std::cell::Cell;

use js_sys::{Array, Date};
use leptos::prelude::{document, window};
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, BlobPropertyBag, Element, EventTarget, HtmlAnchorElement, HtmlElement, Storage, Url};

use crate::model::{clock::Clock, time};

thread_local! {
    /// The server's clock, as answers have told it.
    static CLOCK: Cell<Clock> = const { Cell::new(Clock::NEW) };
}

/// `http://host:port`: the server that sent the page.
pub fn origin() -> String {
    window().location().origin().unwrap_or_default()
}

/// `host:port`, with the port written out.
pub fn authority() -> (String, bool) {
    let location = window().location();
    let secure = location.protocol().is_ok_and(|protocol| protocol == "https:");
    let host = location.host().unwrap_or_default();
    let authority = if host.contains(':') { host } else { format!("{host}:{}", if secure { 443 } else { 80 }) };
    (authority, secure)
}

/// Milliseconds since 1970 by the server's clock; by the browser's before the first answer.
pub fn now() -> i64 {
    CLOCK.get().at(ticks()).unwrap_or_else(browser_now)
}

/// Milliseconds since 1970 by the browser's clock, which may be wrong.
pub fn browser_now() -> i64 {
    Date::now() as i64
}

/// Milliseconds since the page was opened, whatever is done to the browser's clock.
pub fn ticks() -> i64 {
    window().performance().map_or_else(browser_now, |it| it.now() as i64)
}

/// An answer that was asked for at `asked` ticks, and has come, said what time it is.
pub fn hear_time(server_ms: i64, asked: i64) {
    let mut clock = CLOCK.get();
    if clock.hear(server_ms, asked, ticks()) {
        CLOCK.set(clock);
    }
}

/// `Europe/Berlin`; "" = the browser does not tell.
pub fn time_zone() -> String {
    let options = js_sys::Intl::DateTimeFormat::new(&Array::new(), &js_sys::Object::new()).resolved_options();
    js_sys::Reflect::get(&options, &"timeZone".into()).ok().and_then(|it| it.as_string()).unwrap_or_default()
}

/// `/jobs/0192f5a6-…`: where the person is.
pub fn path() -> String {
    window().location().pathname().unwrap_or_default()
}

/// `2026-11-24 14:02:03` in the browser's time zone.
pub fn local_time(ms: i64) -> String {
    time::full(ms, offset(ms))
}

/// `14:02` in the browser's time zone.
pub fn local_clock(ms: i64) -> String {
    time::clock(ms, offset(ms))
}

fn offset(ms: i64) -> i64 {
    -(Date::new(&JsValue::from_f64(ms as f64)).get_timezone_offset() as i64)
}

/// Reads what `<input type="datetime-local">` holds.
pub fn parse_local(text: &str) -> Option<i64> {
    let ms = Date::parse(text);
    ms.is_finite().then_some(ms as i64)
}

pub fn hidden() -> bool {
    document().hidden()
}

pub fn local_storage() -> Option<Storage> {
    window().local_storage().ok().flatten()
}

pub fn session_storage() -> Option<Storage> {
    window().session_storage().ok().flatten()
}

pub fn focus(id: &str) {
    if let Some(element) = document().get_element_by_id(id).and_then(|it| it.dyn_into::<HtmlElement>().ok()) {
        let _ = element.focus();
    }
}

/// True when `target` is in something that does its own thing when it is clicked, or when text is being selected.
pub fn acts_by_itself(target: Option<EventTarget>) -> bool {
    let inside = target
        .and_then(|it| it.dyn_into::<Element>().ok())
        .is_some_and(|it| it.closest("a, button, input, label, select, summary").ok().flatten().is_some());
    let selecting = window().get_selection().ok().flatten().is_some_and(|selection| !selection.is_collapsed());
    inside || selecting
}

/// Puts `text` on the clipboard; false when the browser refuses.
pub async fn copy(text: &str) -> bool {
    // Browsers offer it to secure origins only.
    let navigator: JsValue = window().navigator().into();
    if js_sys::Reflect::get(&navigator, &"clipboard".into()).map_or(true, |it| it.is_undefined()) {
        return false;
    }
    JsFuture::from(window().navigator().clipboard().write_text(text)).await.is_ok()
}

/// Hands `text` to the person as a file.
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

/// The page is up: what stood in for it goes.
pub fn started() {
    if let Some(boot) = document().get_element_by_id("boot") {
        boot.remove();
    }
}

/// A bug: the app is dead, and the person should know instead of clicking on.
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
