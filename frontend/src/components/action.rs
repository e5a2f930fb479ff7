//! Button that starts a call. While the call is under way, the button says so, keeps the focus, and ignores presses.

use leptos::prelude::*;

use super::icon::Icon;

#[component]
pub fn ActionButton(
    class: &'static str,
    #[prop(into)] icon: Signal<&'static str>,
    /// Word beside the icon; "" = the icon alone.
    #[prop(into)]
    word: Signal<String>,
    /// Replaces the word while the call is under way.
    busy_word: &'static str,
    /// Label for screen readers, where the word is not enough; "" = the word.
    #[prop(into, optional)]
    label: Signal<String>,
    #[prop(into)] busy: Signal<bool>,
    /// Key that presses the button, one of [`crate::model::commands::keys`].
    #[prop(optional)]
    key: Option<&'static str>,
    press: impl Fn() + 'static,
) -> impl IntoView {
    // The label holds the word that is seen, by which people who speak to their browser press the button.
    let named = move || {
        let label = Some(label.get()).filter(|label| !label.is_empty())?;
        Some(if busy.get() && !word.with(String::is_empty) { format!("{busy_word} {label}") } else { label })
    };
    let shown = move || {
        let word = word.get();
        if busy.get() && !word.is_empty() { busy_word.to_owned() } else { word }
    };
    view! {
        <button
            type="button"
            class=class
            aria-label=named
            title=named
            aria-keyshortcuts=key
            aria-busy=move || busy.get().to_string()
            aria-disabled=move || busy.get().then_some("true")
            on:click=move |_| {
                if !busy.get_untracked() {
                    press();
                }
            }
        >
            {move || view! { <Icon name=icon.get() /> }}
            {shown}
        </button>
    }
}
