//! EndSession.

use jobqueue_shared::{limits, proto::v1};

use crate::queue::{error::Result, handle::Queue, validate::session_id};

impl Queue {
    /// Ends a session; one that has ended already is no error.
    pub async fn end_session(&self, request: &v1::EndSessionRequest) -> Result<()> {
        let session_id = session_id(&request.session_id)?;
        let freed = self.context.store.end_session(session_id).await?;
        self.sessions.forget(session_id);
        if let Some(worker_id) = freed {
            self.context.notifier.wake(&worker_id, limits::JOBS_PER_SESSION as usize);
        }
        Ok(())
    }
}
