//! List of names and values that describes one job or session. Values change in place.

use leptos::prelude::*;

use super::atoms::{Ago, SessionLink};
use crate::model::{
    facts::{Fact, Value},
    text::or_dash,
};

/// Card that shows the facts in two columns where there is room.
#[component]
pub fn Facts(#[prop(into)] facts: Signal<Vec<Fact>>) -> impl IntoView {
    let count = facts.with_untracked(Vec::len);
    let each = |at: usize| {
        let fact = Memo::new(move |_| facts.with(|facts| facts.get(at).cloned()).unwrap_or_default());
        view! {
            <div>
                <dt>{move || fact.with(|fact| fact.name)}</dt>
                <dd>{value(fact)}</dd>
            </div>
        }
    };
    view! {
        <section class="card">
            <h2 class="unseen">"Facts"</h2>
            <dl class="facts" class:five=count == 10>
                {(0..count).map(each).collect_view()}
            </dl>
        </section>
    }
}

/// View of a value, which changes but keeps its kind.
fn value(fact: Memo<Fact>) -> AnyView {
    let words = Memo::new(move |_| {
        fact.with(|fact| match &fact.value {
            Value::Text(text) | Value::Code(text) | Value::Session(text) => text.clone(),
            Value::Time(_) => String::new(),
        })
    });
    let dashed = move || words.with(|words| or_dash(words));
    match fact.get_untracked().value {
        Value::Text(_) => dashed.into_any(),
        Value::Code(_) => view! { <span class="mono">{dashed}</span> }.into_any(),
        Value::Session(_) => (move || match words.get() {
            none if none.is_empty() => or_dash("").into_any(),
            id => view! { <SessionLink id whole=true /> }.into_any(),
        })
        .into_any(),
        Value::Time(_) => {
            let ms = Memo::new(move |_| match fact.with(|fact| fact.value.clone()) {
                Value::Time(ms) => ms,
                Value::Text(_) | Value::Code(_) | Value::Session(_) => None,
            });
            view! { <Ago ms /> }.into_any()
        }
    }
}
