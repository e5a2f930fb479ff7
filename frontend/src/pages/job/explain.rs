//! Explanation why a pending job does not run, in one sentence, and help for it.

use jobqueue_shared::proto::v1::{ExplainJobRequest, explain_job_response::Reason};
use leptos::prelude::*;
use leptos_router::components::A;

use crate::{
    calls::client,
    components::{icon::Icon, pause::ResumeButton},
    feeds::{counts_feed::CountsFeed, live::feed},
    model::{
        explain::{self, Explanation, Help},
        job::JobPage,
        visible,
    },
};

#[component]
pub fn Why(job: Memo<JobPage>) -> impl IntoView {
    let (worker_id, task) = job.with_untracked(|job| (job.worker_id.clone(), job.task.clone()));
    let pause = CountsFeed::get().pause_of(worker_id.clone());
    let named = worker_id.clone();
    let answer =
        feed(move || job.with(|job| job.id.clone()), |job_id| client::explain_job(ExplainJobRequest { job_id }));
    // Failures are shown elsewhere on the page; without an answer this part is empty.
    let told = Memo::new(move |_| answer.data.with(|data| data.as_ref().and_then(Explanation::of)));
    let reason = Memo::new(move |_| told.with(|told| told.as_ref().map_or(Reason::Unspecified, |it| it.reason)));
    let sentence = Memo::new(move |_| {
        let why = pause.with(|pause| pause.as_ref().map(|it| it.reason.clone())).unwrap_or_default();
        let parts = [named.as_str(), task.as_str(), why.trim()];
        told.with(|told| told.as_ref().map(|it| visible::sentence(&it.sentence, &parts))).unwrap_or_default()
    });
    // Screen readers read the sentence when the reason changes, and not whenever a number in it does.
    let read_out = move || {
        let reason = reason.get();
        (reason != Reason::Unspecified).then(|| sentence.get_untracked())
    };
    let help = move || match explain::help(reason.get(), &worker_id) {
        Help::None => ().into_any(),
        Help::Link(words, href) => view! { <A href=href>{words}</A> }.into_any(),
        Help::Resume => view! { <ResumeButton worker_id=worker_id.clone() /> }.into_any(),
    };
    let help = StoredValue::new(help);
    view! {
        <p class="unseen" role="status">
            {read_out}
        </p>
        <Show when=move || reason.get() != Reason::Unspecified>
            <section class="notice why" class:warn=move || explain::is_stuck(reason.get())>
                <Icon name="question" />
                <div>
                    <h2>"Why is it not running?"</h2>
                    <p class="why-sentence">{move || sentence.get()}</p>
                    <p class="why-help">{move || help.with_value(|help| help())}</p>
                </div>
            </section>
        </Show>
    }
}
