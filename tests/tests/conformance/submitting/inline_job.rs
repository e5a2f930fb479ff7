//! Inline jobs: a small job's fields are kept in its ready row as well.

use jobqueue_shared::state::Ending;
use jobqueue_store::NewJob;

use crate::{
    scenarios,
    store_fixture::{StoreFixture, keyed},
};

scenarios!(
    a_small_job_is_handed_out_by_what_is_kept_beside_its_place,
    a_large_job_is_handed_out_by_what_is_stored_of_it,
    what_cannot_be_read_or_is_not_there_is_looked_up,
    a_job_that_comes_back_is_handed_out_with_all_that_was_submitted,
    a_hand_over_tells_what_a_read_tells,
);

const RENAME: &str = "UPDATE jobs SET task = 'other'";

fn small() -> NewJob {
    NewJob { attempt_timeout_ms: Some(60_000), ..keyed("w", "k", 1) }
}

fn large() -> NewJob {
    NewJob { payload: format!("\"{}\"", "x".repeat(300)), ..small() }
}

impl StoreFixture {
    /// Submits the job, gives it another task in `jobs`, and returns the task with which it is handed out.
    async fn task_after_rename(&self, job: NewJob) -> String {
        let id = self.submit(job).await;
        self.sql(RENAME, RENAME).await;
        let leased = self.session("w").await.acquire_next().await;
        assert_eq!(leased.job.id, id);
        leased.job.task
    }
}

async fn a_small_job_is_handed_out_by_what_is_kept_beside_its_place(fixture: &StoreFixture) {
    let id = fixture.submit(small()).await;
    fixture.sql(RENAME, RENAME).await;
    let found = fixture.store.audit().await.unwrap();
    assert_eq!(found, [format!("ready tells of {id} something else than jobs")]);
    let leased = fixture.session("w").await.acquire_next().await;
    assert_eq!(leased.job.task, "email");
}

async fn a_large_job_is_handed_out_by_what_is_stored_of_it(fixture: &StoreFixture) {
    assert_eq!(fixture.task_after_rename(large()).await, "other");
}

async fn what_cannot_be_read_or_is_not_there_is_looked_up(fixture: &StoreFixture) {
    fixture.submit(small()).await;
    fixture.sql("UPDATE ready SET inline_job = x'ffffff'", r"UPDATE ready SET inline_job = '\xffffff'").await;
    let session = fixture.session("w").await;
    let first = session.acquire_next().await;
    assert_eq!((first.job.task.as_str(), first.job.payload), ("email", small().payload));
    fixture.submit(NewJob { key: None, ..small() }).await;
    fixture.sql("UPDATE ready SET inline_job = NULL", "UPDATE ready SET inline_job = NULL").await;
    let second = session.acquire_next().await;
    assert_eq!((second.job.task.as_str(), second.job.payload), ("email", small().payload));
    assert!(second.deadline_ms.is_some());
}

async fn a_job_that_comes_back_is_handed_out_with_all_that_was_submitted(fixture: &StoreFixture) {
    fixture.submit(small()).await;
    let session = fixture.session("w").await;
    let first = session.acquire_next().await;
    session.end(first.lease, Ending::Fail { permanent: false, retry_after_ms: Some(0) }).await;
    let second = session.acquire_when_due().await;
    assert_eq!(second.job.run_no, 2);
    let asked = |it: &jobqueue_store::JobRecord| {
        (
            it.id,
            it.task.clone(),
            it.payload.clone(),
            it.max_retries,
            it.retry,
            it.attempt_timeout_ms,
            it.idempotency_key.clone(),
        )
    };
    assert_eq!(asked(&second.job), asked(&first.job));
}

async fn a_hand_over_tells_what_a_read_tells(fixture: &StoreFixture) {
    for job in
        [small(), NewJob { key: None, ..large() }, NewJob { key: None, task: String::new(), retry: None, ..small() }]
    {
        let id = fixture.submit(job).await;
        let leased = fixture.session("w").await.acquire_next().await;
        assert_eq!(leased.job, fixture.get(id).await);
    }
}
