//! The jobs that have failed for good: read why, and put them back to work, one or many.

use std::collections::BTreeSet;

use futures::{StreamExt as _, stream};
use jobqueue_shared::{
    proto::v1::{Job, ListFailedJobsRequest, RetryJobRequest},
    time::timestamp_ms,
};
use leptos::{prelude::*, task::spawn_local};
use prost::Message as _;

use super::filters::{FilterBar, from_url};
use crate::{
    api::{self, Failure},
    components::{
        confirm::{Confirm, Question},
        heading::Heading,
        icon::Icon,
        notice::{Empty, Trouble},
        pager::Pager,
        small::{Ago, JobLink},
        table::{Skeleton, opens},
    },
    live::{Live, feed},
    model::{
        filter::Filter,
        id,
        number::{count, plural},
        status,
    },
    toast::Toasts,
};

const PATH: &str = "/dead-letters";
/// Retries under way at once.
const TOGETHER: usize = 6;

#[component]
pub fn DeadLetters() -> impl IntoView {
    let filter = from_url();
    let page = feed(
        move || filter.get(),
        |filter: Filter| {
            api::list_failed_jobs(ListFailedJobsRequest {
                worker_id: filter.worker_id,
                task: filter.task,
                page_token: filter.page,
                page_size: 0,
            })
        },
    );
    let jobs = Memo::new(move |_| page.data.get().map(|data| data.jobs).unwrap_or_default());
    let next = Memo::new(move |_| page.data.get().map(|data| data.next_page_token).unwrap_or_default());
    let has_data = Memo::new(move |_| page.data.with(Option::is_some));
    let selected = RwSignal::new(BTreeSet::<String>::new());
    // Only what is on the page can be selected: nobody retries what they do not see.
    Effect::new(move |_| {
        jobs.with(|jobs| {
            let gone = |id: &String| !jobs.iter().any(|job| job.id == *id);
            if selected.with_untracked(|all| all.iter().any(gone)) {
                selected.update(|all| all.retain(|id| !gone(id)));
            }
        });
    });
    let all = Memo::new(move |_| jobs.with(|jobs| !jobs.is_empty() && jobs.len() == selected.with(BTreeSet::len)));
    let toggle_all = move |_| {
        let on = !all.get_untracked();
        selected.update(|set| {
            set.clear();
            if on {
                set.extend(jobs.get_untracked().into_iter().map(|job| job.id));
            }
        });
    };
    view! {
        <div class="page-head">
            <Heading title="Dead letters" />
        </div>
        <FilterBar path=PATH filter />
        <Selection selected />
        <Trouble failure=page.failure has_data />
        <Show when=move || page.is_loading() || !jobs.with(Vec::is_empty)>
            <div class="card scroll-x" class:busy=move || page.busy.get()>
                <table class="table cards letters" aria-busy=move || page.busy.get().to_string()>
                    <thead>
                        <tr>
                            <th scope="col" class="pick">
                                <label>
                                    <input
                                        type="checkbox"
                                        aria-label="Select all on this page"
                                        prop:checked=all
                                        prop:indeterminate=move || !all.get() && !selected.with(BTreeSet::is_empty)
                                        on:change=toggle_all
                                    />
                                    <span class="only-narrow" aria-hidden="true">"Select all"</span>
                                </label>
                            </th>
                            <th scope="col">"Job"</th>
                            <th scope="col">"Task"</th>
                            <th scope="col">"worker_id"</th>
                            <th scope="col">"Reason"</th>
                            <th scope="col">"Error"</th>
                            <th scope="col" class="num">"Attempts"</th>
                            <th scope="col">"Failed"</th>
                            <th scope="col"><span class="unseen">"Actions"</span></th>
                        </tr>
                    </thead>
                    <tbody>
                        <Show when=move || page.is_loading()>
                            <Skeleton columns=9 rows=10 />
                        </Show>
                        <For each=move || jobs.get() key=|job| job.encode_to_vec() let:job>
                            <Row job selected />
                        </For>
                    </tbody>
                </table>
            </div>
        </Show>
        <Show when=move || has_data.get() && jobs.with(Vec::is_empty)>
            <Empty icon="letters" title="No dead letters">
                <p>
                    {move || {
                        if filter.get().is_set() {
                            "None fits these filters."
                        } else {
                            "Jobs land here when they fail max_retries times."
                        }
                    }}
                </p>
            </Empty>
        </Show>
        <Pager path=PATH filter next />
    }
}

/// How many are selected, and what can be done with them.
#[component]
fn Selection(selected: RwSignal<BTreeSet<String>>) -> impl IntoView {
    let chosen = Memo::new(move |_| selected.with(|all| i32::try_from(all.len()).unwrap_or(i32::MAX)));
    let (confirm, toasts, live) = (Confirm::get(), Toasts::get(), Live::get());
    let retry = move |_| {
        let ids: Vec<String> = selected.get_untracked().into_iter().collect();
        let letters = plural(chosen.get_untracked(), "dead letter", "dead letters");
        confirm.ask(Question {
            title: format!("Retry {letters}?"),
            text: "Each goes back to pending with a fresh attempt budget. Its history stays.".into(),
            action: format!("Retry {letters}"),
            destroys: false,
            input: "",
            then: Callback::new(move |_| {
                let ids = ids.clone();
                spawn_local(async move {
                    let answers = retry_all(ids).await;
                    tell(toasts, &answers);
                    let done = |id: &String| answers.iter().any(|(it, answer)| it == id && !is_left(answer.as_ref()));
                    // The person may have gone to another page meanwhile.
                    let _ = selected.try_update(|all| all.retain(|id| !done(id)));
                    live.refresh();
                });
            }),
        });
    };
    view! {
        <Show when=move || { chosen.get() > 0 }>
            <div class="selection" role="region" aria-label="Selection">
                <span>{move || count(chosen.get())}" selected"</span>
                <button type="button" class="button primary" on:click=retry>
                    <Icon name="retry" />
                    {move || format!("Retry {}", count(chosen.get()))}
                </button>
                <button type="button" class="button" on:click=move |_| selected.update(BTreeSet::clear)>
                    "Clear selection"
                </button>
            </div>
        </Show>
    }
}

/// An id, and what went wrong with it.
type Answer = (String, Option<Failure>);

async fn retry_all(ids: Vec<String>) -> Vec<Answer> {
    let one = |id: String| async move {
        let answer = api::retry_job(RetryJobRequest { job_id: id.clone() }).await;
        (id, answer.err())
    };
    stream::iter(ids).map(one).buffer_unordered(TOGETHER).collect().await
}

/// True for a dead letter that is still one.
fn is_left(failure: Option<&Failure>) -> bool {
    failure.is_some_and(|failure| !failure.is_gone())
}

fn tell(toasts: Toasts, answers: &[Answer]) {
    let number = |test: fn(Option<&Failure>) -> bool| {
        let n = answers.iter().filter(|(_, failure)| test(failure.as_ref())).count();
        i32::try_from(n).unwrap_or(i32::MAX)
    };
    let (gone, left) = (number(|it| it.is_some_and(Failure::is_gone)), number(is_left));
    let gone = if gone > 0 { format!(", {} already gone", count(gone)) } else { String::new() };
    let text = format!("{} retried{gone}", count(number(|it| it.is_none())));
    match answers.iter().filter_map(|(_, failure)| failure.as_ref()).find(|it| is_left(Some(it))) {
        Some(first) => toasts.bad(format!("{text}, {} not: {}", count(left), first.message)),
        None => toasts.good(text),
    }
}

#[component]
fn Row(job: Job, selected: RwSignal<BTreeSet<String>>) -> impl IntoView {
    let (toasts, live) = (Toasts::get(), Live::get());
    let open = opens(format!("/jobs/{}", job.id));
    let id = StoredValue::new(job.id.clone());
    let busy = RwSignal::new(false);
    let retry = move |_| {
        if busy.get_untracked() {
            return;
        }
        busy.set(true);
        spawn_local(async move {
            tell(toasts, &retry_all(vec![id.get_value()]).await);
            let _ = busy.try_set(false);
            live.refresh();
        });
    };
    let toggle = move |_| {
        selected.update(|all| {
            let id = id.get_value();
            if !all.remove(&id) {
                all.insert(id);
            }
        });
    };
    let checked = move || selected.with(|all| id.with_value(|id| all.contains(id)));
    let short = id::short(&job.id);
    let (select, put_back) = (format!("Select job {short}"), format!("Retry job {short}"));
    view! {
        <tr class="opens" class:chosen=checked on:click=open>
            <td class="pick">
                <label>
                    <input
                        type="checkbox"
                        aria-label=select
                        prop:checked=checked
                        on:change=toggle
                    />
                </label>
            </td>
            <td data-label="Job" class="lead">
                <JobLink id=job.id.clone() />
            </td>
            <td data-label="Task" class="cut" title=job.task.clone()>
                {if job.task.is_empty() { "–".to_owned() } else { job.task.clone() }}
            </td>
            <td data-label="worker_id" class="cut mono" title=job.worker_id.clone()>
                {job.worker_id.clone()}
            </td>
            <td data-label="Reason">{status::reason(job.failure_reason())}</td>
            <td data-label="Error" class="cut error-text mono" title=job.last_error.clone()>
                {job.last_error.clone()}
            </td>
            <td data-label="Attempts" class="num">
                {status::attempts(&job)}
            </td>
            <td data-label="Failed">
                <Ago ms=job.finished_at.as_ref().map(timestamp_ms) />
            </td>
            <td class="act">
                <button
                    type="button"
                    class="button quiet"
                    aria-label=put_back
                    aria-busy=move || busy.get().to_string()
                    on:click=retry
                >
                    <Icon name="retry" />
                    "Retry"
                </button>
            </td>
        </tr>
    }
}
