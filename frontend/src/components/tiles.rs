//! Row of tiles, each a count that links to the list that it counts.

use jobqueue_shared::proto::v1::GetMetricsResponse;
use leptos::prelude::*;
use leptos_router::components::A;

use super::icon::Icon;
use crate::model::{
    counts::{TILES, Tile, figures},
    throughput::{Minute, Span},
};

/// Tiles with the counts of one worker_id or, if it is "", of all.
#[component]
pub fn Tiles(
    #[prop(optional)] worker_id: String,
    counts: Memo<Option<GetMetricsResponse>>,
    minutes: Memo<Vec<Minute>>,
    span: RwSignal<Span>,
) -> impl IntoView {
    let all = Memo::new(move |_| {
        counts.with(|data| data.as_ref().map(|data| minutes.with(|minutes| figures(data, minutes, span.get().word()))))
    });
    let tile = move |(at, tile): (usize, Tile)| {
        let figure = Memo::new(move |_| all.with(|all| all.as_ref().map(|all| all[at].count.clone())));
        let note = Memo::new(move |_| all.with(|all| all.as_ref().map(|all| all[at].note.clone())));
        view! {
            <A href=tile.href(&worker_id) attr:class=format!("tile {}", tile.tone)>
                <span class="tile-word">
                    <Icon name=tile.icon />
                    {tile.word}
                </span>
                <span class="tile-figure">
                    {move || figure.get().map_or_else(|| view! { <span class="bone"></span> }.into_any(), IntoAny::into_any)}
                </span>
                <span class="tile-note">{move || note.get().filter(|note| !note.is_empty()).unwrap_or_else(|| "\u{a0}".into())}</span>
            </A>
        }
    };
    view! { <div class="tiles">{TILES.into_iter().enumerate().map(tile).collect_view()}</div> }
}
