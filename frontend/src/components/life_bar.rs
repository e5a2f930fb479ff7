//! Life of a job as a bar drawn to scale, with its sums in words below.

use leptos::prelude::*;

use crate::{
    browser::{dom, zone::ZoneSwitch},
    feeds::rows::rows,
    model::{
        life::{Kind, Life, Segment},
        time,
    },
};

#[component]
pub fn LifeBar(life: Memo<Life>) -> impl IntoView {
    // A segment keeps its place: only the last ones change as time passes.
    let keyed = move || {
        let life = life.get();
        life.segments.into_iter().enumerate().map(|(at, segment)| Keyed { key: at.to_string(), segment }).collect()
    };
    let rows = rows(keyed, |it: &Keyed| it.key.clone());
    let words = Memo::new(move |_| life.with(|life| life.words.clone()));
    let (from, to) = (Memo::new(move |_| life.with(|life| life.from)), Memo::new(move |_| life.with(|life| life.to)));
    let end = move |ms: Memo<i64>| {
        view! { <time datetime=move || time::iso(ms.get())>{move || dom::local_time(ms.get())}</time> }
    };
    view! {
        <section class="card life">
            <header class="card-head">
                <h2>"Life"</h2>
                <span class="muted">"drawn to scale"</span>
                <div class="card-actions">
                    <ZoneSwitch />
                </div>
            </header>
            <figure>
                <div class="life-bar" aria-hidden="true">
                    <For each=move || rows.keys.get() key=Clone::clone let:key>
                        <Part it=rows.row(key) />
                    </For>
                </div>
                <div class="life-ends">{end(from)} {end(to)}</div>
                <figcaption>{words}</figcaption>
                <p class="life-key" aria-hidden="true">
                    <span class="waited pending">"waited"</span>
                    <span class="ran running">"ran"</span>
                    <span class="ran done">"done"</span>
                    <span class="ran failed">"failed"</span>
                    <span class="next retrying">"next"</span>
                </p>
            </figure>
        </section>
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Keyed {
    key: String,
    segment: Segment,
}

#[component]
fn Part(it: Memo<Keyed>) -> impl IntoView {
    let class = move || {
        it.with(|it| {
            let kind = match it.segment.kind {
                Kind::Waited => "waited",
                Kind::Ran => "ran",
                Kind::Ended => "ended",
                Kind::Next => "next",
            };
            format!("{kind} {}", it.segment.tone)
        })
    };
    let title = move || it.with(|it| format!("{}, from {} on", it.segment.words, dom::local_time(it.segment.from)));
    view! { <span class=class title=title style:flex-grow=move || it.with(|it| it.segment.length().to_string())></span> }
}
