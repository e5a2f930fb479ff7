//! Small chart of bars in a row of a table. Screen readers hear the number beside it.

use leptos::prelude::*;

use crate::model::error_group::spark;

const WIDTH: f64 = 96.0;
const HEIGHT: f64 = 22.0;
/// Maximum number of bars: more would be narrower than two pixels.
const BARS: usize = 32;

#[component]
pub fn Spark(#[prop(into)] counts: Signal<Vec<i32>>) -> impl IntoView {
    view! {
        <svg class="error-spark" width=WIDTH height=HEIGHT viewBox=format!("0 0 {WIDTH} {HEIGHT}") aria-hidden="true">
            <line x1="0" x2=WIDTH y1=HEIGHT - 0.5 y2=HEIGHT - 0.5 />
            <path d=move || counts.with(|counts| spark(counts, WIDTH, HEIGHT, BARS)) />
        </svg>
    }
}
