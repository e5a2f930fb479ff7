//! What is known of a job, as a list of facts.

use jobqueue_shared::{
    proto::v1::{Job, RetryPolicy},
    time::{duration_ms, timestamp_ms},
};
use leptos::prelude::*;

use crate::{
    components::small::{Ago, SessionLink},
    model::{span, status},
};

#[component]
pub fn Facts(job: Signal<Job>) -> impl IntoView {
    let fact = |name: &'static str, value: AnyView| {
        view! {
            <div>
                <dt>{name}</dt>
                <dd>{value}</dd>
            </div>
        }
    };
    let list = move || {
        let job = job.get();
        let time = |at: &Option<_>| view! { <Ago ms=at.as_ref().map(timestamp_ms) /> }.into_any();
        let text = |text: &str| if text.is_empty() { "–".to_owned().into_any() } else { text.to_owned().into_any() };
        let mono = |text: &str| view! { <span class="mono">{text.to_owned()}</span> }.into_any();
        let session = |id: &str| view! { <SessionLink id=id.to_owned() whole=true /> }.into_any();
        let timeout = job.attempt_timeout.as_ref().map_or_else(|| "none".into(), |it| span::exact(duration_ms(it)));
        vec![
            fact("Attempts", status::attempts(&job).into_any()),
            fact("Priority", job.priority.into_any()),
            fact("Retry policy", job.retry_policy.as_ref().map_or_else(String::new, policy).into_any()),
            fact("Attempt timeout", timeout.into_any()),
            fact("Idempotency key", if job.idempotency_key.is_empty() { text("") } else { mono(&job.idempotency_key) }),
            fact("Session", if job.session_id.is_empty() { text("") } else { session(&job.session_id) }),
            fact("Created", time(&job.created_at)),
            fact("Run at", time(&job.run_at)),
            fact("Started", time(&job.started_at)),
            fact("Finished", time(&job.finished_at)),
            fact("Changed", time(&job.updated_at)),
            fact("Hand-overs", job.run_no.into_any()),
        ]
    };
    view! {
        <section class="card">
            <h2 class="unseen">"Facts"</h2>
            <dl class="facts">{list}</dl>
        </section>
    }
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
