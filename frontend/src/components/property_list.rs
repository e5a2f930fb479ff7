//! List of names and values that describes one job or session. Values change in place.

use leptos::prelude::*;

use super::{
    atoms::{Ago, SessionLink},
    job_text::JobText,
};
use crate::model::{
    property::{Property, Value},
    text::or_dash,
};

/// Card that shows the properties in two columns where there is room.
#[component]
pub fn PropertyList(#[prop(into)] properties: Signal<Vec<Property>>) -> impl IntoView {
    let count = properties.with_untracked(Vec::len);
    let each = |at: usize| {
        let property =
            Memo::new(move |_| properties.with(|properties| properties.get(at).cloned()).unwrap_or_default());
        view! {
            <div>
                <dt>{move || property.with(|property| property.name)}</dt>
                <dd>{value(property)}</dd>
            </div>
        }
    };
    view! {
        <section class="card">
            <h2 class="unseen">"Properties"</h2>
            <dl class="properties" class:five=count == 10>
                {(0..count).map(each).collect_view()}
            </dl>
        </section>
    }
}

/// View of a value, which changes but keeps its kind.
fn value(property: Memo<Property>) -> AnyView {
    let words = Memo::new(move |_| {
        property.with(|property| match &property.value {
            Value::Text(text) | Value::Code(text) | Value::Session(text) => text.clone(),
            Value::Time(_) => String::new(),
        })
    });
    let dashed = Signal::derive(move || words.with(|words| or_dash(words)));
    match property.get_untracked().value {
        Value::Text(_) => view! { <JobText text=dashed /> }.into_any(),
        Value::Code(_) => view! { <span class="mono"><JobText text=dashed /></span> }.into_any(),
        Value::Session(_) => (move || match words.get() {
            none if none.is_empty() => or_dash("").into_any(),
            id => view! { <SessionLink id whole=true /> }.into_any(),
        })
        .into_any(),
        Value::Time(_) => {
            let ms = Memo::new(move |_| match property.with(|property| property.value.clone()) {
                Value::Time(ms) => ms,
                Value::Text(_) | Value::Code(_) | Value::Session(_) => None,
            });
            view! { <Ago ms full=true /> }.into_any()
        }
    }
}
