//! ListWorkers and GetWorker: the sessions of workers.

use jobqueue_shared::{limits, proto::v1};
use jobqueue_store::{SessionCursor, SessionDetails, SessionQuery, SessionRecord};

use super::page_token;
use crate::queue::{
    error::{Error, Result},
    handle::Queue,
    validate::{Violations, session_id},
};

/// Maximum bytes of a stored task besides its name: quotes, comma, and escapes of JSON.
const SESSION_BYTES_A_TASK: usize = 3 + limits::TASK;
/// Maximum bytes of the stored tasks of one session.
const LARGEST_SESSION: usize = limits::TASKS_PER_SESSION * (SESSION_BYTES_A_TASK + limits::TASK);

impl Queue {
    /// Lists a page of sessions, and returns the token of the next page.
    pub async fn list_workers(&self, request: v1::ListWorkersRequest) -> Result<(Vec<SessionRecord>, String)> {
        let mut violations = Violations::default();
        violations.name("worker_id", &request.worker_id, limits::WORKER_ID);
        let page_size = match violations.integer("page_size", request.page_size, 0..=limits::SESSIONS_PAGE) {
            0 => limits::SESSIONS_PAGE,
            size => size,
        };
        let list = format!("sessions/{}", request.worker_id);
        let after = match request.page_token.as_str() {
            "" => None,
            token => page_token::place(&list, token).map_err(|wrong| violations.add("page_token", wrong)).ok(),
        };
        violations.finish()?;
        let worker_id = (!request.worker_id.is_empty()).then_some(request.worker_id);
        let found = self.context.store.sessions(&SessionQuery { worker_id, after, page_size }).await?;
        let bytes: usize = found.iter().flat_map(|it| &it.tasks).map(|task| task.len() + SESSION_BYTES_A_TASK).sum();
        // The page may have ended because of its size. If it did not, the next page may be empty.
        let full = found.len() >= page_size as usize || bytes + LARGEST_SESSION >= limits::REPLY_BYTES;
        let next = found.last().filter(|_| full).map(|last| {
            let at = SessionCursor {
                ended: last.ended_at_ms.is_some(),
                started_at_ms: last.started_at_ms,
                session_id: last.session_id,
            };
            page_token::token(&list, &at)
        });
        Ok((found, next.unwrap_or_default()))
    }

    pub async fn get_worker(&self, request: &v1::GetWorkerRequest) -> Result<SessionDetails> {
        let session_id = session_id(&request.session_id)?;
        self.context.store.session(session_id).await?.ok_or(Error::SessionNotFound(session_id))
    }
}
