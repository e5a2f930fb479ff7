//! End of a run: all jobs finish, and the final state is read from the servers.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use jobqueue_shared::proto::v1::{GetJobRequest, GetMetricsRequest, GetMetricsResponse, ListJobsRequest};
use jobqueue_tests::api::Api;
use tokio::process::Command;

use super::site::{PATIENCE, Site};
use crate::history::{FinalJob, FinalState};

/// Time without progress after which the remaining jobs count as stuck: a lease, a few backoffs and a minute.
const NO_PROGRESS: Duration = Duration::from_secs(75);
const LOOK_EVERY: Duration = Duration::from_millis(250);
const PAGE: i32 = 500;
const CALLS_AT_ONCE: usize = 16;

impl Site {
    /// Stops the submitters, then waits until all jobs are finished or make no more progress.
    pub(super) async fn drain(&mut self) -> Result<()> {
        for submitter in &mut self.submitters {
            submitter.dismiss()?;
        }
        let gone = |site: &mut Self| Ok(site.submitters.iter().all(|it| it.running.is_none()));
        self.until("the submitters end", PATIENCE, gone).await?;
        let (mut seen, mut moved) = (None, Instant::now());
        loop {
            self.live_for(LOOK_EVERY).await?;
            let now = self.metrics().await?;
            if now.pending == 0 && now.running == 0 {
                return Ok(());
            }
            // A job that is retried without end counts as progress, too, but its attempt budget ends that.
            let counts = (now.pending, now.running, now.done, now.failed, now.cancelled, now.retrying);
            if seen != Some(counts) {
                (seen, moved) = (Some(counts), Instant::now());
            } else if moved.elapsed() > NO_PROGRESS {
                // The checker reports the jobs that are stuck.
                eprintln!("nothing has moved for {NO_PROGRESS:?}: {now:?}");
                return Ok(());
            }
        }
    }

    /// Ends the workers with SIGTERM, and reads all jobs through the API.
    pub(super) async fn final_state(&mut self) -> Result<FinalState> {
        for worker in &mut self.workers {
            worker.dismiss()?;
        }
        let gone = |site: &mut Self| Ok(site.workers.iter().all(|it| it.running.is_none()));
        self.until("the workers end", PATIENCE, gone).await?;
        let api = self.api(0);
        let ids = all_jobs(&api).await?;
        let jobs: Vec<FinalJob> = futures::stream::iter(ids)
            .map(|job_id| {
                let mut jobs = api.jobs();
                async move {
                    let shown = jobs.get_job(GetJobRequest { job_id }).await?.into_inner();
                    anyhow::Ok(FinalJob::try_from(shown)?)
                }
            })
            .buffered(CALLS_AT_ONCE)
            .try_collect()
            .await?;
        let counted = self.metrics().await?.total;
        ensure!(counted as usize == jobs.len(), "{counted} jobs are counted, and {} are listed", jobs.len());
        Ok(FinalState { jobs })
    }

    /// Ends the servers with SIGTERM, and runs `jobqueue-server check` on the database. Returns the contradictions that
    /// it finds.
    pub(super) async fn contradictions(&mut self) -> Result<Option<String>> {
        for server in &mut self.servers {
            server.dismiss()?;
        }
        let gone = |site: &mut Self| Ok(site.servers.iter().all(|it| it.running.is_none()));
        self.until("the servers end", PATIENCE, gone).await?;
        let mut check = Command::new(self.server_program());
        check.args(["--database-url", &self.direct_url(), "check"]).stdin(Stdio::null());
        let output = check.output().await.context("cannot run jobqueue-server check")?;
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        Ok((!output.status.success()).then_some(text))
    }

    async fn metrics(&mut self) -> Result<GetMetricsResponse> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.api(0).jobs().get_metrics(GetMetricsRequest::default()).await {
                Ok(metrics) => return Ok(metrics.into_inner()),
                Err(status) if Instant::now() > end => bail!("no metrics within {PATIENCE:?}: {status}"),
                Err(_) => self.live_for(LOOK_EVERY).await?,
            }
        }
    }
}

async fn all_jobs(api: &Api) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListJobsRequest { page_size: PAGE, page_token, ..ListJobsRequest::default() };
        let page = api.jobs().list_jobs(request).await?.into_inner();
        ids.extend(page.jobs.into_iter().map(|job| job.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(ids);
        }
    }
}
