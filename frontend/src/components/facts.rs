//! What is known of one thing, as a list of names and values.

use jobqueue_shared::time::timestamp_ms;
use leptos::prelude::*;
use prost_types::Timestamp;

use super::small::Ago;

pub type Fact = (&'static str, AnyView);

/// A text; a dash where there is none.
pub fn text(text: &str) -> AnyView {
    if text.is_empty() { "–".to_owned().into_any() } else { text.to_owned().into_any() }
}

pub fn time(at: Option<&Timestamp>) -> AnyView {
    view! { <Ago ms=at.map(timestamp_ms) /> }.into_any()
}

/// The card that shows them, in columns of so many `rows` where there is room: six, or five.
pub fn card(rows: Rows, list: impl Fn() -> Vec<Fact> + Send + 'static) -> impl IntoView {
    let each = |(name, value): Fact| {
        view! {
            <div>
                <dt>{name}</dt>
                <dd>{value}</dd>
            </div>
        }
    };
    view! {
        <section class="card">
            <h2 class="unseen">"Facts"</h2>
            <dl class="facts" class:five=rows == Rows::Five>
                {move || list().into_iter().map(each).collect_view()}
            </dl>
        </section>
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    Five,
    Six,
}
