//! Check after a fault that every server serves submitters and workers.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jobqueue_shared::proto::v1::{EndSessionRequest, HeartbeatRequest, RegisterSessionRequest, SubmitJobRequest};
use serde_json::json;

use super::{nemesis::Nemesis, site::PATIENCE};
use crate::history::{self, Submit};

impl Nemesis<'_> {
    /// Waits until every server serves the calls of submitters and workers.
    pub(super) async fn all_serve(&mut self) -> Result<()> {
        for server in 0..self.site.servers.len() {
            let end = Instant::now() + PATIENCE;
            while let Err(error) = self.use_all_of(server).await {
                let name = self.site.servers[server].name();
                ensure!(Instant::now() < end, "{name} does not serve {PATIENCE:?} after all was well: {error:#}");
                self.site.live_for(Duration::from_millis(20)).await?;
            }
        }
        Ok(())
    }

    /// Submits a job, as any submitter does; registers a session, extends and ends it.
    async fn use_all_of(&mut self, server: usize) -> Result<()> {
        let api = self.site.api(server);
        self.calls += 1;
        let call = self.calls;
        let nonce = format!("nemesis-{call}");
        let submit = Submit {
            worker_id: "faults".to_owned(),
            payload: json!({ "task": "works", "nonce": nonce, "sleep_ms": 0, "text": "" }).to_string(),
            nonce,
            key: String::new(),
            max_retries: 5,
            run_at_ms: None,
            delay_ms: None,
        };
        let request = SubmitJobRequest {
            worker_id: submit.worker_id.clone(),
            payload_json: submit.payload.clone(),
            max_retries: Some(submit.max_retries),
            ..SubmitJobRequest::default()
        };
        self.recorder.record(history::Kind::SubmitInvoke { call, place: 0, of: 1, submit })?;
        let stored = soon(api.jobs().submit_job(request)).await;
        self.recorder.record(match &stored {
            Ok(stored) => {
                let job = stored.job_id.parse().context("a job id")?;
                history::Kind::SubmitOk { call, place: 0, job, deduplicated: stored.deduplicated }
            }
            Err(error) => history::Kind::SubmitUnknown { call, place: 0, error: format!("{error:#}") },
        })?;
        stored?;
        let session = RegisterSessionRequest {
            worker_id: "nemesis".to_owned(),
            host: "nemesis".to_owned(),
            slots: 1,
            ..RegisterSessionRequest::default()
        };
        let session_id = soon(api.workers().register_session(session)).await?.session_id;
        let beat = HeartbeatRequest { session_id: session_id.clone(), draining: true };
        soon(api.workers().heartbeat(beat)).await?;
        soon(api.workers().end_session(EndSessionRequest { session_id })).await?;
        Ok(())
    }
}

/// Awaits an answer for 3 s at most.
async fn soon<T>(call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>) -> Result<T> {
    Ok(tokio::time::timeout(Duration::from_secs(3), call).await.context("no answer within 3 s")??.into_inner())
}
