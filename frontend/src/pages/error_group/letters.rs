//! Dead letters of an error group.

use jobqueue_shared::proto::v1::{JobFilter, JobView, ListJobsRequest, job_filter::Status};
use leptos::prelude::*;

use crate::{
    calls::{bulk_retry::retry_one, client, in_flight::job_key, operator_actions::OperatorActions},
    components::{
        action::ActionButton,
        atoms::{Ago, JobLink},
        job_text::JobText,
        listing::{
            Column::{self, Controls, Number, Text},
            List, Listing,
        },
        notice::Empty,
        table::opens,
    },
    feeds::live::feed_paced,
    model::{id, job::LetterRow, visible::visible},
};

const COLUMNS: &[Column] = &[
    Text("Error"),
    Text("worker_id"),
    Text("Job"),
    Text("Reason"),
    Number("Attempts"),
    Text("Failed"),
    Controls("Actions"),
];

/// Numbers of dead letters that the list shows, one after the other.
const SIZES: [i32; 3] = [20, 100, 200];
/// Pause between two requests, in milliseconds.
const EVERY_MS: u32 = 5_000;

#[component]
pub(super) fn Letters(id: String) -> impl IntoView {
    let size = RwSignal::new(SIZES[0]);
    let answer = feed_paced(
        move || size.get(),
        move |page_size| {
            let filter =
                JobFilter { statuses: vec![Status::Failed.into()], error_group: id.clone(), ..JobFilter::default() };
            client::list_jobs(ListJobsRequest {
                filter: Some(filter),
                page_size,
                view: JobView::Basic.into(),
                ..ListJobsRequest::default()
            })
        },
        |_| EVERY_MS,
    );
    let jobs = List::of(answer, |page| LetterRow::all(&page.jobs), |job| job.id.clone());
    let more =
        Memo::new(move |_| answer.data.with(|data| data.as_ref().is_some_and(|data| !data.next_page_token.is_empty())));
    let larger = move || SIZES.into_iter().find(|it| *it > size.get());
    view! {
        <section class="group-letters" aria-labelledby="group-letters">
            <h2 id="group-letters">"Dead letters"</h2>
            <Listing
                list=jobs
                columns=COLUMNS
                row=|id, job| view! { <Row id job /> }.into_any()
                empty=|| {
                    view! {
                        <Empty icon="letters" title="No dead letters">
                            <p>"Jobs with this error were retried, are still tried, or have been removed."</p>
                        </Empty>
                    }
                }
                grey=3
            />
            <Show when=move || more.get()>
                {move || match larger() {
                    Some(next) => view! {
                        <div class="pager">
                            <button type="button" class="button" on:click=move |_| size.set(next)>
                                {format!("Show up to {next}")}
                            </button>
                        </div>
                    }
                    .into_any(),
                    None => view! { <p class="muted">"The newest 200 are shown."</p> }.into_any(),
                }}
            </Show>
        </section>
    }
}

#[component]
fn Row(id: String, job: Memo<LetterRow>) -> impl IntoView {
    let actions = OperatorActions::get();
    let open = opens(id::job_page(&id));
    let busy = actions.in_flight.busy(job_key(&id));
    let retried = id.clone();
    let retry = move || retry_one(actions, retried.clone());
    let label = format!("Retry job {}", id::short(&id));
    let worker_id = move || job.with(|job| visible(&job.worker_id).into_owned());
    let error = move || job.with(|job| visible(&job.error).into_owned());
    view! {
        <tr class="opens" on:click=open.clone() on:auxclick=open>
            <td data-label="Error" class="cut error-text mono" title=error>
                <JobText text=Signal::derive(error) />
            </td>
            <td data-label="worker_id" class="cut mono" title=worker_id>
                <JobText text=Signal::derive(worker_id) />
            </td>
            <td data-label="Job" class="lead">
                <JobLink id />
            </td>
            <td data-label="Reason">{move || job.with(|job| job.reason)}</td>
            <td data-label="Attempts" class="num">{move || job.with(|job| job.attempts.clone())}</td>
            <td data-label="Failed">
                <Ago ms=Signal::derive(move || job.with(|job| job.failed)) />
            </td>
            <td class="act">
                <ActionButton
                    class="button quiet"
                    icon="retry"
                    word="Retry"
                    busy_word="Retrying…"
                    label
                    busy
                    press=retry
                />
            </td>
        </tr>
    }
}
