//! Heartbeat: extends a session, and answers with the leases that it has to stop.

use jobqueue_shared::proto::v1;
use jobqueue_store::{Heartbeat, HeartbeatAnswer};

use crate::queue::{
    error::{Error, Result},
    group_commit::limits::Weight,
    handle::Queue,
    validate::session_id,
};

impl Queue {
    pub async fn heartbeat(&self, request: &v1::HeartbeatRequest) -> Result<HeartbeatAnswer> {
        let session_id = session_id(&request.session_id)?;
        let beat = Heartbeat { session_id, draining: request.draining };
        let answers = self.beats.call(vec![beat], Weight { count: 1, bytes: 0 }).await?;
        answers.into_iter().next().flatten().ok_or(Error::SessionEnded(session_id))
    }
}
