//! Takeover from earlier runs of this worker whose process is gone, so that their jobs need not wait until the leases
//! expire.

use std::collections::HashSet;

use jobqueue_shared::{
    limits,
    proto::v1::{
        ListWorkersRequest, RegisterSessionRequest, RegisterSessionResponse, WorkerSession, worker_session::State,
    },
};
use parking_lot::Mutex;
use rustix::{
    io::Errno,
    process::{Pid, test_kill_process},
};
use tonic::Status;

use crate::{connection::status, running_worker::RunningWorker};

/// Ids of the sessions of this process, which may run several workers of one `worker_id`. None of them is gone.
static OURS: Mutex<Option<HashSet<String>>> = Mutex::new(None);
/// Lock held from the search for predecessors until the own session is registered, so that two workers of this process
/// do not take each other for an earlier run.
static REGISTERING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Registers a session. If `takeover` is true, it takes over from earlier runs.
pub(crate) async fn register(
    worker: &RunningWorker,
    mut request: RegisterSessionRequest,
    takeover: bool,
) -> Result<RegisterSessionResponse, Status> {
    let _alone = if takeover { Some(REGISTERING.lock().await) } else { None };
    if takeover {
        request.predecessors = predecessors(worker).await?;
    }
    let reply = worker.calls.register_session(request).await?;
    ours().get_or_insert_default().insert(reply.session_id.clone());
    Ok(reply)
}

/// Ids of the sessions of earlier runs whose process is gone; none when the server refuses to list them.
async fn predecessors(worker: &RunningWorker) -> Result<Vec<String>, Status> {
    let sessions = match sessions(worker).await {
        Ok(sessions) => sessions,
        Err(failure) if status::is_away(&failure) || status::is_busy(&failure) => return Err(failure),
        Err(failure) => {
            let status = status::describe(&failure);
            tracing::warn!(status, "the server does not tell of earlier runs; their leases have to run out");
            return Ok(Vec::new());
        }
    };
    let ours = ours().clone().unwrap_or_default();
    let gone = gone(&sessions, &worker.config.host, &ours, exists);
    if !gone.is_empty() {
        tracing::info!(sessions = gone.join(","), "taking over from earlier runs whose process is gone");
    }
    Ok(gone)
}

/// All sessions of this worker_id that the server lists.
async fn sessions(worker: &RunningWorker) -> Result<Vec<WorkerSession>, Status> {
    let worker_id = worker.config.worker_id.clone();
    let mut request = ListWorkersRequest { worker_id, ..ListWorkersRequest::default() };
    let mut sessions = Vec::new();
    loop {
        let reply = worker.calls.list_workers(request.clone()).await?;
        sessions.extend(reply.sessions);
        if reply.next_page_token.is_empty() {
            return Ok(sessions);
        }
        request.page_token = reply.next_page_token;
    }
}

/// Ids of the `sessions` whose process was on this host and no longer exists.
fn gone(sessions: &[WorkerSession], host: &str, ours: &HashSet<String>, exists: impl Fn(i32) -> bool) -> Vec<String> {
    sessions
        .iter()
        .filter(|it| matches!(it.state(), State::Live | State::Draining | State::Expired))
        .filter(|it| it.host == host && !host.is_empty() && it.pid > 0)
        .filter(|it| !ours.contains(&it.session_id) && !exists(it.pid))
        .map(|it| it.session_id.clone())
        .take(limits::PREDECESSORS)
        .collect()
}

/// True when there is a process with this id. For this process's own id it is false: the session is of an earlier
/// process with that id, because a container that starts again gives the same one.
fn exists(pid: i32) -> bool {
    if u32::try_from(pid) == Ok(std::process::id()) {
        return false;
    }
    // Any other error means that the process exists, as for a process of another user.
    Pid::from_raw(pid).is_none_or(|pid| test_kill_process(pid) != Err(Errno::SRCH))
}

fn ours() -> parking_lot::MutexGuard<'static, Option<HashSet<String>>> {
    OURS.lock()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(id: &str, host: &str, pid: i32, state: State) -> WorkerSession {
        WorkerSession { session_id: id.into(), host: host.into(), pid, state: state.into(), ..WorkerSession::default() }
    }

    #[test]
    fn only_a_process_of_this_host_that_is_gone_is_taken_over() {
        let sessions = [
            session("gone", "h", 7, State::Live),
            session("draining", "h", 7, State::Draining),
            session("expired", "h", 7, State::Expired),
            session("ended", "h", 7, State::Ended),
            session("lost", "h", 7, State::Lost),
            session("lives", "h", 8, State::Live),
            session("elsewhere", "g", 7, State::Live),
            session("does not say", "h", 0, State::Live),
            session("ours", "h", 7, State::Live),
        ];
        let ours = HashSet::from(["ours".to_owned()]);
        assert_eq!(gone(&sessions, "h", &ours, |pid| pid != 7), ["gone", "draining", "expired"]);
        let unnamed = [session("gone", "", 7, State::Live)];
        assert_eq!(gone(&unnamed, "", &ours, |_| false), [""; 0], "it could be any host");
        let many = vec![session("gone", "h", 7, State::Live); 1_000];
        assert_eq!(gone(&many, "h", &ours, |_| false).len(), limits::PREDECESSORS);
    }

    #[test]
    fn a_process_exists_until_it_is_gone() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(exists(pid) && exists(1));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!exists(pid));
        assert!(!exists(std::process::id().try_into().unwrap()), "an earlier run had the same id");
    }
}
