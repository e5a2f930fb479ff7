//! List of names and values that describes one job or session. Values change in place.

use jobqueue_shared::time::timestamp_ms;
use leptos::prelude::*;
use prost_types::Timestamp;

use super::atoms::{Ago, or_dash};

pub type Fact = (Signal<&'static str>, AnyView);

/// Value that is a text; a dash when it is empty.
pub fn text(text: impl Fn() -> String + Send + Sync + 'static) -> AnyView {
    let text = Memo::new(move |_| or_dash(&text()));
    (move || text.get()).into_any()
}

pub fn time(at: impl Fn() -> Option<Timestamp> + Send + Sync + 'static) -> AnyView {
    let ms = Memo::new(move |_| at().as_ref().map(timestamp_ms));
    view! { <Ago ms /> }.into_any()
}

/// Card that shows the facts in columns of `rows` rows (six or five) where there is room.
pub fn card(rows: Rows, facts: Vec<Fact>) -> impl IntoView {
    let each = |(name, value): Fact| {
        view! {
            <div>
                <dt>{move || name.get()}</dt>
                <dd>{value}</dd>
            </div>
        }
    };
    view! {
        <section class="card">
            <h2 class="unseen">"Facts"</h2>
            <dl class="facts" class:five=rows == Rows::Five>
                {facts.into_iter().map(each).collect_view()}
            </dl>
        </section>
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    Five,
    Six,
}
