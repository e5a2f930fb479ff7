//! Data of a job, as a list of facts.

use jobqueue_shared::{
    proto::v1::{Job, RetryPolicy},
    time::duration_ms,
};
use leptos::prelude::*;

use crate::{
    components::{
        atoms::{SessionLink, or_dash},
        facts::{self, Rows, text, time},
    },
    model::{span, status},
};

#[component]
pub fn Facts(job: Signal<Job>) -> impl IntoView {
    let session = Memo::new(move |_| job.with(|job| job.session_id.clone()));
    let key = move || job.with(|job| or_dash(&job.idempotency_key));
    let facts = vec![
        ("Attempts".into(), text(move || job.with(status::attempts))),
        ("Priority".into(), text(move || job.with(|job| job.priority.to_string()))),
        (
            "Retry policy".into(),
            text(move || job.with(|job| job.retry_policy.as_ref().map_or_else(String::new, policy))),
        ),
        ("Attempt timeout".into(), text(move || job.with(timeout))),
        ("Idempotency key".into(), view! { <span class="mono">{key}</span> }.into_any()),
        ("Session".into(), session_view(session)),
        ("Created".into(), time(move || job.with(|job| job.created_at))),
        ("Run at".into(), time(move || job.with(|job| job.run_at))),
        ("Started".into(), time(move || job.with(|job| job.started_at))),
        ("Finished".into(), time(move || job.with(|job| job.finished_at))),
        ("Changed".into(), time(move || job.with(|job| job.updated_at))),
        ("Hand-overs".into(), text(move || job.with(|job| job.run_no.to_string()))),
    ];
    facts::card(Rows::Six, facts)
}

fn session_view(session: Memo<String>) -> AnyView {
    let link = move || match session.get() {
        none if none.is_empty() => "–".into_any(),
        id => view! { <SessionLink id whole=true /> }.into_any(),
    };
    link.into_any()
}

fn timeout(job: &Job) -> String {
    job.attempt_timeout.as_ref().map_or_else(|| "none".into(), |it| span::exact(duration_ms(it)))
}

/// Text of a retry policy, such as "5 s × 2, at most 1 h, ± 20 %".
fn policy(policy: &RetryPolicy) -> String {
    let time = |it: &Option<_>| it.as_ref().map_or(0, duration_ms);
    format!(
        "{} × {}, at most {}, ± {} %",
        span::exact(time(&policy.initial)),
        policy.factor(),
        span::exact(time(&policy.max)),
        (policy.jitter() * 100.0).round()
    )
}
