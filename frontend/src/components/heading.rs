//! Heading of a page, its only h1: sets the tab's title and takes the focus on navigation.

use leptos::{html, prelude::*};
use web_sys::FocusOptions;

use super::job_text::JobText;
use crate::model::visible::isolated;

/// Title of the current page for the top bar, and whether a first page has been shown already.
#[derive(Clone, Copy)]
pub struct Place {
    pub title: RwSignal<String>,
    moved: StoredValue<bool>,
}

impl Place {
    pub fn provide() -> Self {
        let place = Self { title: RwSignal::new(String::new()), moved: StoredValue::new(false) };
        provide_context(place);
        place
    }
}

#[component]
pub fn Heading(
    #[prop(into)] title: String,
    /// True when the title is an id rather than words.
    #[prop(optional)]
    mono: bool,
) -> impl IntoView {
    let place = expect_context::<Place>();
    let h1 = NodeRef::<html::H1>::new();
    // An id comes from the address, and may be any text.
    document().set_title(&format!("{} · jobqueue", isolated(&title)));
    place.title.set(isolated(&title));
    Effect::new(move |_| {
        let Some(h1) = h1.get() else { return };
        // When the app is first opened, the focus belongs to the browser.
        if place.moved.get_value() {
            // Where the page is scrolled to is decided elsewhere.
            let options = FocusOptions::new();
            options.set_prevent_scroll(true);
            let _ = h1.focus_with_options(&options);
        }
        place.moved.set_value(true);
    });
    view! { <h1 tabindex="-1" class:mono=mono node_ref=h1><JobText text=title /></h1> }
}
