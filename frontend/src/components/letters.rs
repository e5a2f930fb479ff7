//! Card with the newest dead letters, of one worker_id or of all.

use jobqueue_shared::proto::v1::{JobView, ListFailedJobsRequest};
use leptos::prelude::*;
use leptos_router::components::A;

use super::{
    atoms::{Ago, JobLink},
    job_text::JobText,
    listing::{
        Column::{self, Text},
        List, Listing,
    },
    notice::Empty,
    table::opens,
};
use crate::{
    calls::client,
    feeds::live::feed,
    model::{filter::Filter, id, job::LetterRow, visible::visible},
};

const COLUMNS: &[Column] = &[Text("Job"), Text("Error"), Text("Failed")];

#[component]
pub fn NewestDeadLetters(#[prop(optional)] worker_id: String) -> impl IntoView {
    let all = Filter::of_worker_id(&worker_id).url("/dead-letters");
    let answer = feed(
        move || worker_id.clone(),
        |worker_id| {
            client::list_failed_jobs(ListFailedJobsRequest {
                worker_id,
                page_size: 8,
                view: JobView::Basic.into(),
                ..ListFailedJobsRequest::default()
            })
        },
    );
    view! {
        <section class="card">
            <header class="card-head">
                <h2>"Newest dead letters"</h2>
                <div class="card-actions">
                    <A href=all>"All"</A>
                </div>
            </header>
            <Listing
                list=List::of(answer, |answer| LetterRow::all(&answer.jobs), |job| job.id.clone())
                columns=COLUMNS
                row=|id, job| view! { <Letter id job /> }.into_any()
                empty=|| {
                    view! {
                        <Empty icon="letters" title="No dead letters">
                            <p>"Jobs land here when they fail max_retries times."</p>
                        </Empty>
                    }
                }
                grey=5
                class="table brief cards"
                frame="scroll-x"
            />
        </section>
    }
}

#[component]
fn Letter(id: String, job: Memo<LetterRow>) -> impl IntoView {
    let open = opens(id::job_page(&id));
    let error = move || job.with(|job| visible(&job.error).into_owned());
    view! {
        <tr class="opens" on:click=open.clone() on:auxclick=open>
            <td class="lead">
                <JobLink id />
            </td>
            <td class="cut error-text mono" title=error>
                <JobText text=Signal::derive(error) />
            </td>
            <td class="state">
                <Ago ms=Signal::derive(move || job.with(|job| job.failed)) />
            </td>
        </tr>
    }
}
