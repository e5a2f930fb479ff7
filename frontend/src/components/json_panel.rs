//! Panel with a payload or result, pretty-printed or raw, to be copied or saved. Always shown as text, never as markup.

use leptos::prelude::*;

use super::{atoms::CopyButton, icon::Icon};
use crate::{
    browser::dom,
    model::{
        json::{self, Kind},
        number,
        visible::visible,
    },
};

/// Size in bytes above which JSON is not coloured, because that would cost more than the colours tell.
const COLOURED: usize = 64 * 1024;

#[component]
pub fn JsonPanel(
    title: &'static str,
    #[prop(into)] text: Signal<String>,
    /// Name of the file when it is saved.
    #[prop(into)]
    file: String,
    /// Text that is shown when there is no JSON.
    empty: &'static str,
) -> impl IntoView {
    let raw = RwSignal::new(false);
    let file = StoredValue::new(file);
    let body = move || {
        let text = text.get();
        if raw.get() {
            return visible(&text).into_owned().into_any();
        }
        let pieces = json::pretty(&text);
        if text.len() > COLOURED {
            return pieces.into_iter().map(|(_, piece)| visible(&piece).into_owned()).collect::<String>().into_any();
        }
        pieces
            .into_iter()
            .map(|(kind, piece)| view! { <span class=class(kind)>{visible(&piece).into_owned()}</span> })
            .collect_view()
            .into_any()
    };
    let mode = move |is_raw: bool, word: &'static str| {
        view! {
            <button
                type="button"
                class="button quiet"
                aria-pressed=move || (raw.get() == is_raw).to_string()
                on:click=move |_| raw.set(is_raw)
            >
                {word}
            </button>
        }
    };
    view! {
        <section class="card json">
            <header class="card-head">
                <h2>{title}</h2>
                <Show when=move || !text.with(String::is_empty)>
                    <span class="muted">{move || number::bytes(text.with(String::len))}</span>
                    <div class="card-actions">
                        {mode(false, "Pretty")} {mode(true, "Raw")}
                        <CopyButton text=Callback::new(move |()| text.get_untracked()) label="Copy" />
                        <button
                            type="button"
                            class="button quiet square"
                            aria-label="Download"
                            title="Download"
                            on:click=move |_| file.with_value(|file| dom::download(file, &text.get_untracked()))
                        >
                            <Icon name="download" />
                        </button>
                    </div>
                </Show>
            </header>
            <Show
                when=move || !text.with(String::is_empty)
                fallback=move || view! { <p class="card-body muted">{empty}</p> }
            >
                <pre class="code" tabindex="0" aria-label=title>
                    {body}
                </pre>
            </Show>
        </section>
    }
}

fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::Mark => "j-mark",
        Kind::Key => "j-key",
        Kind::Text => "j-text",
        Kind::Number => "j-number",
        Kind::Word => "j-word",
    }
}
