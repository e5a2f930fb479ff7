//! Copies of a job: an exact one, or one with changes.

pub mod editor;
pub mod lineage;

use std::sync::Arc;

use crate::{
    browser::dom,
    calls::{
        client::{self, Failure},
        in_flight::job_key,
        operator_actions::OperatorActions,
    },
    components::confirm::{Confirm, Question},
    model::id,
};
use jobqueue_shared::proto::v1::{CopyJobRequest, CopyJobResponse, JobChanges};

/// Copies a job under an idempotency key. `then` gets the answer.
fn copy(
    actions: OperatorActions,
    job_id: String,
    changes: JobChanges,
    idempotency_key: String,
    then: impl FnOnce(Result<CopyJobResponse, Failure>) + 'static,
) {
    actions.in_flight.run(vec![job_key(&job_id)], async move {
        let request = CopyJobRequest { job_id, changes: Some(changes), idempotency_key };
        then(client::copy_job(request).await);
        actions.live.refresh();
    });
}

/// Asks once, then makes an exact copy and calls `open` with the address of its page, if the person still looks at the
/// original.
pub fn ask_to_clone(
    actions: OperatorActions,
    confirm: Confirm,
    job_id: String,
    open: impl Fn(String) + Send + Sync + 'static,
) {
    let key = uuid::Uuid::new_v4().to_string();
    let open = Arc::new(open);
    confirm.ask(Question {
        title: "Clone this job?".into(),
        text:
            "A new job with the same payload, task, worker_id and options runs as soon as a worker takes it. This one \
               stays as it is."
                .into(),
        action: "Clone job".into(),
        destroys: false,
        input: "",
        then: Arc::new(move |_| {
            let (page, open) = (id::job_page(&job_id), open.clone());
            copy(actions, job_id.clone(), JobChanges::default(), key.clone(), move |answer| match answer {
                Ok(copy) => {
                    actions.toasts.good(format!("Submitted the copy {}", id::short(&copy.job_id)));
                    if dom::path() == page {
                        open(id::job_page(&copy.job_id));
                    }
                }
                Err(failure) => actions.toasts.bad(format!("Not copied: {}", failure.message)),
            });
        }),
    });
}
