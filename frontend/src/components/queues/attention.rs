//! Sentences on what needs attention, each with what to do about it.

use leptos::prelude::*;
use leptos_router::components::A;

use crate::{
    components::{icon::Icon, job_text::JobText, pause::ResumeButton},
    feeds::{
        counts_feed::CountsFeed,
        live::Live,
        rows::{Rows, rows},
    },
    model::queues::{
        attention::{Action, Attention, Sentence},
        queue,
    },
};

/// Present time in milliseconds, which tells of its changes once a minute: sentences tell times in minutes.
pub fn minutely() -> Signal<i64> {
    let live = Live::get();
    let minute = Memo::new(move |_| live.now.get() / 60_000);
    Signal::derive(move || {
        minute.track();
        live.now.get_untracked()
    })
}

/// List of the queues' concerns, or one quiet line.
#[component]
pub fn NeedsAttention() -> impl IntoView {
    let CountsFeed(counts) = CountsFeed::get();
    let now = minutely();
    let all = Memo::new(move |_| counts.data.with(|data| data.as_ref().map(|data| Attention::of(data, now.get()))));
    let known = Memo::new(move |_| all.with(Option::is_some));
    let sentences =
        rows(move || all.with(|all| all.as_ref().map(|it| it.sentences.clone())).unwrap_or_default(), Sentence::key);
    let more = Memo::new(move |_| all.with(|all| all.as_ref().map(|it| it.more.clone())).unwrap_or_default());
    let calm = Memo::new(move |_| known.get() && sentences.keys.with(Vec::is_empty));
    view! {
        <section class="attention" aria-labelledby="attention-title">
            <h2 id="attention-title" class:unseen=calm>
                "Needs attention"
            </h2>
            <Show when=move || !known.get()>
                <p class="calm">
                    <span class="bone"></span>
                </p>
            </Show>
            <Show when=move || calm.get()>
                <p class="calm">
                    <Icon name="check" />
                    "Nothing needs attention."
                </p>
            </Show>
            <Sentences sentences named=true />
            <Show when=move || !more.with(String::is_empty)>
                <p class="more-concerns">
                    <A href="/queues">{more}</A>
                </p>
            </Show>
        </section>
    }
}

/// Concerns of one queue; nothing where there are none. A pause is shown elsewhere on its page.
#[component]
pub fn QueueConcerns(worker_id: String) -> impl IntoView {
    let CountsFeed(counts) = CountsFeed::get();
    let now = minutely();
    let all = move || {
        let now = now.get();
        counts.data.with(|data| {
            let found = data.as_ref()?.worker_ids.iter().find(|it| it.worker_id == worker_id)?;
            Some(Sentence::all(found, now).into_iter().filter(|it| it.action != Action::Resume).collect::<Vec<_>>())
        })
    };
    let sentences = rows(move || all().unwrap_or_default(), Sentence::key);
    view! { <Sentences sentences named=false /> }
}

/// List of sentences. Each is known by its key and changes in place. `named` = the worker_id is a link to its page.
#[component]
fn Sentences(sentences: Rows<Sentence>, named: bool) -> impl IntoView {
    let keys = sentences.keys;
    view! {
        <Show when=move || !keys.with(Vec::is_empty)>
            <ul class="concerns">
                <For each=move || keys.get() key=Clone::clone let:key>
                    <OneSentence sentence=sentences.row(key) named />
                </For>
            </ul>
        </Show>
    }
}

#[component]
fn OneSentence(sentence: Memo<Sentence>, named: bool) -> impl IntoView {
    // A sentence's kind, worker_id and action never change: its key names them.
    let it = sentence.get_untracked();
    let (icon, tone) = it.look();
    let name = it.worker_id.clone();
    let name = if named {
        view! {
            <A href=queue::page(&it.worker_id) attr:class="mono">
                <JobText text=name />
            </A>
        }
        .into_any()
    } else {
        view! { <span class="mono"><JobText text=name /></span> }.into_any()
    };
    let action = match it.action {
        Action::Link(words, href) => view! { <A href=href attr:class="button">{words}</A> }.into_any(),
        Action::Resume => view! { <ResumeButton worker_id=it.worker_id /> }.into_any(),
    };
    view! {
        <li class=format!("concern {tone}")>
            <Icon name=icon />
            <p>
                {move || sentence.with(|it| it.before.clone())}
                {name}
                {move || sentence.with(|it| it.after.clone())}
            </p>
            {action}
        </li>
    }
}
