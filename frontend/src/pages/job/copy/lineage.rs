//! Line that tells from which job a job was copied, and which were copied from it.

use leptos::prelude::*;

use crate::{components::atoms::JobLink, model::lineage};

#[component]
pub fn Lineage(lineage: Memo<lineage::Lineage>) -> impl IntoView {
    let origin = Memo::new(move |_| lineage.with(|it| it.origin.clone()));
    let copies = Memo::new(move |_| lineage.with(|it| it.copies.clone()));
    view! {
        <Show when=move || !lineage.with(lineage::Lineage::is_empty)>
            <p class="lineage">
                <Show when=move || !origin.with(String::is_empty)>
                    <span>"Copied from " {move || view! { <JobLink id=origin.get() /> }}</span>
                </Show>
                <Show when=move || !copies.with(Vec::is_empty)>
                    <span>
                        {move || if copies.with(Vec::len) == 1 { "Copy: " } else { "Copies, newest first: " }}
                        <For each=move || copies.get() key=Clone::clone let:id>
                            <span class="copy"><JobLink id /></span>
                        </For>
                        {move || lineage.with(|it| it.more).then_some("and older ones")}
                    </span>
                </Show>
            </p>
        </Show>
    }
}
