//! The smallest parts: status pill, time, copy button.

use leptos::{prelude::*, task::spawn_local};
use leptos_router::components::A;

use super::icon::Icon;
use crate::{
    dom,
    live::Live,
    model::{id, status::Look, time},
    toast::Toasts,
};

/// A status: shape, word and colour.
#[component]
pub fn Pill(#[prop(into)] look: Signal<Look>) -> impl IntoView {
    move || {
        let Look { icon, word, tone } = look.get();
        view! { <span class=format!("pill {tone}")><Icon name=icon />{word}</span> }
    }
}

/// A job by its short id; the full one in its title.
#[component]
pub fn JobLink(id: String) -> impl IntoView {
    let short = id::short(&id);
    view! {
        <A href=format!("/jobs/{id}") attr:class="mono" attr:title=id>
            {short}
        </A>
    }
}

/// A session, linked to its worker's page; by its short id, or `whole`.
#[component]
pub fn SessionLink(id: String, #[prop(optional)] whole: bool) -> impl IntoView {
    let text = if whole { id.clone() } else { id::short(&id) };
    view! {
        <A href=format!("/workers/{id}") attr:class="mono" attr:title=id>
            {text}
        </A>
    }
}

/// A time, relative and always up to date; the full one in its title.
#[component]
pub fn Ago(ms: Option<i64>) -> impl IntoView {
    let live = Live::get();
    ms.map_or_else(
        || view! { <span class="muted">"–"</span> }.into_any(),
        |ms| {
            view! {
                <time datetime=time::iso(ms) title=dom::local_time(ms)>
                    {move || time::relative(ms, live.now.get())}
                </time>
            }
            .into_any()
        },
    )
}

/// Copies `text()`; says so on the button itself, where the eye is.
#[component]
pub fn CopyButton(
    text: Callback<(), String>,
    /// "Copy id": what a screen reader says.
    label: &'static str,
    /// Shown beside the icon; "" = the icon alone.
    #[prop(default = "")]
    word: &'static str,
) -> impl IntoView {
    let copied = RwSignal::new(false);
    let toasts = Toasts::get();
    let press = move |_| {
        let text = text.run(());
        spawn_local(async move {
            if !dom::copy(&text).await {
                toasts.bad("The browser does not allow copying here; select the text and copy it by hand");
                return;
            }
            // The component may be gone when the time is up.
            let _ = copied.try_set(true);
            gloo_timers::future::TimeoutFuture::new(1_500).await;
            let _ = copied.try_set(false);
        });
    };
    let class = if word.is_empty() { "button quiet square" } else { "button quiet" };
    view! {
        <button type="button" class=class aria-label=label title=label on:click=press>
            {move || view! { <Icon name=if copied.get() { "check" } else { "copy" } /> }}
            {(!word.is_empty()).then_some(move || if copied.get() { "Copied" } else { word })}
        </button>
    }
}
