//! Text that comes from jobs and workers, within a sentence or a cell of the page.

use leptos::prelude::*;

use crate::model::visible::visible;

/// Text of a job or worker: isolated, so that its direction changes nothing around it, and with its control characters
/// shown as symbols.
#[component]
pub fn JobText(#[prop(into)] text: Signal<String>) -> impl IntoView {
    view! { <bdi>{move || text.with(|text| visible(text).into_owned())}</bdi> }
}
