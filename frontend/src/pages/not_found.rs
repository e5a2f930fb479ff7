//! Page for an address that does not exist.

use leptos::prelude::*;
use leptos_router::components::A;

use crate::components::{heading::Heading, notice::Empty};

#[component]
pub fn NotFound() -> impl IntoView {
    view! {
        <div class="page-head">
            <Heading title="No such page" />
        </div>
        <Empty icon="question" title="There is nothing at this address.">
            <p>
                "Go to the " <A href="/">"overview"</A> " or the " <A href="/jobs">"jobs"</A> "."
            </p>
        </Empty>
    }
}
