//! What is known of a job, as a list of facts.

use jobqueue_shared::{
    proto::v1::{Job, RetryPolicy},
    time::duration_ms,
};
use leptos::prelude::*;

use crate::{
    components::{
        facts::{self, Rows, text, time},
        small::SessionLink,
    },
    model::{span, status},
};

#[component]
pub fn Facts(job: Signal<Job>) -> impl IntoView {
    let list = move || {
        let job = job.get();
        let mono = |text: &str| view! { <span class="mono">{text.to_owned()}</span> }.into_any();
        let session = |id: &str| view! { <SessionLink id=id.to_owned() whole=true /> }.into_any();
        let timeout = job.attempt_timeout.as_ref().map_or_else(|| "none".into(), |it| span::exact(duration_ms(it)));
        vec![
            ("Attempts", status::attempts(&job).into_any()),
            ("Priority", job.priority.into_any()),
            ("Retry policy", job.retry_policy.as_ref().map_or_else(String::new, policy).into_any()),
            ("Attempt timeout", timeout.into_any()),
            ("Idempotency key", if job.idempotency_key.is_empty() { text("") } else { mono(&job.idempotency_key) }),
            ("Session", if job.session_id.is_empty() { text("") } else { session(&job.session_id) }),
            ("Created", time(job.created_at.as_ref())),
            ("Run at", time(job.run_at.as_ref())),
            ("Started", time(job.started_at.as_ref())),
            ("Finished", time(job.finished_at.as_ref())),
            ("Changed", time(job.updated_at.as_ref())),
            ("Hand-overs", job.run_no.into_any()),
        ]
    };
    facts::card(Rows::Six, list)
}

/// "5 s × 2, at most 1 h, ± 20 %".
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
