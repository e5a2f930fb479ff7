//! Outcome of a submission: the stored job with its present status, or the refusal.

use leptos::prelude::*;
use leptos_router::components::A;

use crate::{
    calls::client::{Failure, Kind},
    components::{
        atoms::{JobLink, Pill},
        icon::Icon,
    },
    feeds::live::Live,
    model::{draft::FIELDS, id, status::JobStatus},
    pages::job::feeds::job_feeds,
};

/// Answer of the server to the last submission.
#[derive(Clone, PartialEq)]
pub enum Outcome {
    None,
    Stored { job_id: String, deduplicated: bool },
    Failed(Failure),
}

pub fn said(outcome: &Outcome) -> Option<AnyView> {
    match outcome {
        Outcome::None => None,
        Outcome::Stored { job_id, deduplicated } => {
            Some(view! { <Stored job_id=job_id.clone() deduplicated=*deduplicated /> }.into_any())
        }
        Outcome::Failed(failure) => Some(view! { <Refused failure=failure.clone() /> }.into_any()),
    }
}

/// Notice with the stored job and its present status.
#[component]
fn Stored(job_id: String, deduplicated: bool) -> impl IntoView {
    let live = Live::get();
    let answer = job_feeds(job_id.clone()).job;
    let look = Memo::new(move |_| {
        let status = answer.data.with(|data| Some(JobStatus::of(data.as_ref()?.job.as_ref()?)));
        status.map(|status| status.look(live.now.get()))
    });
    view! {
        <div class="notice good">
            <Icon name="check" />
            <p>
                {if deduplicated { "This key had been used for the same request: it is job " } else { "Submitted job " }}
                <JobLink id=job_id />
            </p>
            {move || look.get().map(|look| view! { <Pill look /> })}
        </div>
    }
}

#[component]
fn Refused(failure: Failure) -> impl IntoView {
    // Errors of the form's own fields are shown at these fields.
    let other: Vec<_> = failure.fields.iter().filter(|(field, _)| !FIELDS.contains(&field.as_str())).cloned().collect();
    let advice = match failure.kind {
        Kind::Away => {
            " Nothing typed is lost. The job may have been stored all the same; submitting again stores it once at most."
        }
        _ if failure.fields.len() > other.len() => " See the marked fields.",
        _ => "",
    };
    view! {
        <div class="notice bad" role="alert">
            <Icon name="warning" />
            <div>
                <p>
                    <strong>"Not submitted: "{failure.message}"."</strong>
                    {advice}
                    {failure
                        .job_id
                        .map(|job_id| {
                            view! {
                                " "
                                <A href=id::job_page(&job_id)>"See that job"</A>
                            }
                        })}
                </p>
                {other.into_iter().map(|(field, text)| view! { <p class="mono">{format!("{field} {text}")}</p> }).collect_view()}
            </div>
        </div>
    }
}
