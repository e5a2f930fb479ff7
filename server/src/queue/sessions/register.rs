//! RegisterSession.

use jobqueue_shared::{limits, proto::v1};
use jobqueue_store::{NewSession, Registration, StoreError};
use uuid::Uuid;

use crate::queue::{
    acquire::tasks::Tasks,
    error::{Error, Result},
    handle::Queue,
    validate::Violations,
};

/// A new session.
#[derive(Clone, Copy, Debug)]
pub struct Registered {
    pub session_id: Uuid,
    pub lease_ms: i64,
}

impl Queue {
    pub async fn register(&self, request: v1::RegisterSessionRequest) -> Result<Registered> {
        let mut violations = Violations::default();
        violations.worker_id("worker_id", &request.worker_id);
        violations.name("host", &request.host, limits::SESSION_TEXT);
        violations.name("version", &request.version, limits::SESSION_TEXT);
        if request.tasks.len() > limits::TASKS_PER_SESSION {
            let count = request.tasks.len();
            violations.add("tasks", format!("has {count}; the limit is {}", limits::TASKS_PER_SESSION));
        }
        for (index, task) in request.tasks.iter().enumerate() {
            violations.name(&format!("tasks[{index}]"), task, limits::TASK);
        }
        let slots = violations.integer("slots", request.slots, 1..=limits::JOBS_PER_SESSION);
        let lease_ms = request.lease_time.map_or(limits::LEASE_MS_DEFAULT, |it| {
            violations.duration_ms("lease_time", it, limits::LEASE_MS_MIN..=limits::LEASE_MS_MAX, "5 s to 12 h")
        });
        let predecessors = predecessors(&mut violations, &request);
        violations.finish()?;
        if self.draining.is_cancelled() {
            return Err(Error::Draining);
        }
        let session = NewSession {
            worker_id: request.worker_id,
            host: request.host,
            pid: request.pid,
            version: request.version,
            tasks: request.tasks,
            slots,
            lease_ms,
            predecessors,
        };
        match self.context.store.register(&session).await? {
            Registration::New { session_id, taken_back } => {
                for predecessor in session.predecessors {
                    self.sessions.forget(predecessor);
                }
                self.sessions.put(session_id, &session.worker_id, Tasks::of(&session.tasks));
                if taken_back > 0 {
                    self.context.notifier.wake(&session.worker_id, taken_back as usize);
                }
                Ok(Registered { session_id, lease_ms })
            }
            Registration::NoPredecessor { index, why } => {
                let mut violations = Violations::default();
                violations.add(&format!("predecessors[{index}]"), why);
                violations.finish()?;
                Err(StoreError::Defect(format!("a predecessor was refused: {why}")).into())
            }
        }
    }
}

/// Ids of the sessions that the new one takes over from. The request must name the host: the caller can have seen only
/// there that their process is gone.
fn predecessors(violations: &mut Violations, request: &v1::RegisterSessionRequest) -> Vec<Uuid> {
    let count = request.predecessors.len();
    if count > limits::PREDECESSORS {
        violations.add("predecessors", format!("has {count}; the limit is {}", limits::PREDECESSORS));
        return Vec::new();
    }
    if count > 0 && request.host.is_empty() {
        violations.add("host", "must be given with predecessors: they are of the same host");
    }
    let id = |(index, text): (usize, &String)| violations.uuid(&format!("predecessors[{index}]"), text);
    request.predecessors.iter().enumerate().map(id).collect()
}
