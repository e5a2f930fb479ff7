//! Smallest components: status pill, links, time, copy button.

use leptos::{prelude::*, task::spawn_local};
use leptos_router::components::A;

use super::icon::Icon;
use crate::{
    browser::dom,
    calls::id_search::{Kind, ShownIds},
    feeds::live::Live,
    model::{id, status::Look, time},
    toast::Toasts,
};

/// Status as a pill with an icon, a word and a colour.
#[component]
pub fn Pill(#[prop(into)] look: Signal<Look>) -> impl IntoView {
    move || {
        let Look { icon, word, tone } = look.get();
        view! { <span class=format!("pill {tone}")><Icon name=icon />{word}</span> }
    }
}

/// Link to a job by its short id; the full id is its title.
#[component]
pub fn JobLink(id: String) -> impl IntoView {
    ShownIds::get().add(&id, Kind::Job);
    let short = id::short(&id);
    view! {
        <A href=id::job_page(&id) attr:class="mono" attr:title=id>
            {short}
        </A>
    }
}

/// Link to the page of a session, by its short id or, with `whole`, by its full id.
#[component]
pub fn SessionLink(id: String, #[prop(optional)] whole: bool) -> impl IntoView {
    ShownIds::get().add(&id, Kind::Session);
    let text = if whole { id.clone() } else { id::short(&id) };
    view! {
        <A href=id::session_page(&id) attr:class="mono" attr:title=id>
            {text}
        </A>
    }
}

/// Relative time that is kept up to date; the full time is its title and, with `full`, stands behind it.
#[component]
pub fn Ago(#[prop(into)] ms: Signal<Option<i64>>, #[prop(optional)] full: bool) -> impl IntoView {
    let live = Live::get();
    let known = Memo::new(move |_| ms.get().is_some());
    let text = Memo::new(move |_| ms.get().map(|ms| time::relative(ms, live.now.get())));
    move || {
        if !known.get() {
            return view! { <span class="muted">"–"</span> }.into_any();
        }
        view! {
            <time datetime=move || ms.get().map(time::iso) title=move || ms.get().map(dom::local_time)>
                {move || text.get()}
                {full.then(|| view! { <span class="full-time">", "{move || ms.get().map(dom::local_time)}</span> })}
            </time>
        }
        .into_any()
    }
}

/// Button that copies `text()`, and confirms that on itself.
#[component]
pub fn CopyButton(
    text: Callback<(), String>,
    /// Label for screen readers, such as "Copy id".
    label: &'static str,
    /// Word beside the icon; "" = the icon alone.
    #[prop(default = "")]
    word: &'static str,
) -> impl IntoView {
    let copied = RwSignal::new(false);
    let busy = RwSignal::new(false);
    let toasts = Toasts::get();
    let press = move |_| {
        if busy.get_untracked() {
            return;
        }
        let text = text.run(());
        busy.set(true);
        spawn_local(async move {
            let done = dom::copy(&text).await;
            // The component may be gone meanwhile.
            let _ = busy.try_set(false);
            if !done {
                toasts.bad("The browser does not allow copying here; select the text and copy it by hand");
                return;
            }
            let _ = copied.try_set(true);
            gloo_timers::future::TimeoutFuture::new(1_500).await;
            let _ = copied.try_set(false);
        });
    };
    let class = if word.is_empty() { "button quiet square" } else { "button quiet" };
    view! {
        <button
            type="button"
            class=class
            aria-label=label
            title=label
            aria-busy=move || busy.get().to_string()
            on:click=press
        >
            {move || view! { <Icon name=if copied.get() { "check" } else { "copy" } /> }}
            {(!word.is_empty()).then_some(move || if copied.get() { "Copied" } else { word })}
        </button>
    }
}
