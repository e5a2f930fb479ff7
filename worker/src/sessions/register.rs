//! Registration of a session, repeated until the server answers.

use jobqueue_shared::proto::v1::RegisterSessionRequest;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::{
    connection::backoff::Backoff,
    fields,
    running_worker::RunningWorker,
    sessions::{session::Session, takeover},
};

/// Registers a session, and repeats the call until the server answers; with `takeover`, it takes over from earlier runs
/// that died. `None` when the worker is stopped before that.
///
/// # Errors
/// The status of a server that refuses this worker, and would refuse it again.
pub(crate) async fn register(worker: &RunningWorker, takeover: bool) -> Result<Option<Session>, Status> {
    let config = &worker.config;
    let request = RegisterSessionRequest {
        worker_id: config.worker_id.clone(),
        host: config.host.clone(),
        pid: std::process::id().try_into().unwrap_or_default(),
        version: config.version.clone(),
        tasks: worker.handlers.tasks(),
        slots: config.concurrency.try_into().unwrap_or(i32::MAX),
        lease_time: Some(fields::duration(config.lease_time)),
        predecessors: Vec::new(),
    };
    let mut pauses = Backoff::for_lease(config.lease_time);
    loop {
        let asked_at = Instant::now();
        let answer = tokio::select! {
            biased;
            () = worker.stopping.cancelled() => return Ok(None),
            answer = takeover::register(worker, request.clone(), takeover) => answer,
        };
        match answer {
            Ok(reply) => return Ok(Some(Session::new(reply, config.lease_time, asked_at))),
            Err(status) if is_final(&status) => return Err(status),
            Err(_) => tokio::select! {
                () = worker.stopping.cancelled() => return Ok(None),
                () = tokio::time::sleep(pauses.next()) => {}
            },
        }
    }
}

/// True when registering again would get the same answer.
fn is_final(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument | Code::Unimplemented | Code::PermissionDenied | Code::Unauthenticated
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_that_cannot_change_end_the_worker() {
        assert!(is_final(&Status::invalid_argument("worker_id")) && is_final(&Status::unimplemented("")));
        assert!(!is_final(&Status::unavailable("")) && !is_final(&Status::internal("")));
    }
}
