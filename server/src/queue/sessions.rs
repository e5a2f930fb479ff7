//! RegisterSession, Heartbeat, EndSession, GetWorker and ListWorkers. A session is one run of one worker process.

use std::collections::HashMap;

use jobqueue_shared::{limits, proto::v1};
use jobqueue_store::{
    Heartbeat, HeartbeatAnswer, NewSession, Registration, SessionCursor, SessionDetails, SessionQuery, SessionRecord,
    StoreError, StoreResult,
};
use parking_lot::Mutex;
use uuid::Uuid;

use super::{
    Queue,
    error::{Error, Result},
    group_commit::Weight,
    page,
    tasks::Tasks,
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

    pub async fn heartbeat(&self, request: &v1::HeartbeatRequest) -> Result<HeartbeatAnswer> {
        let session_id = session_id(&request.session_id)?;
        let beat = Heartbeat { session_id, draining: request.draining };
        let answers = self.beats.call(vec![beat], Weight { count: 1, bytes: 0 }).await?;
        answers.into_iter().next().flatten().ok_or(Error::SessionEnded(session_id))
    }

    pub async fn worker(&self, request: &v1::GetWorkerRequest) -> Result<SessionDetails> {
        let session_id = session_id(&request.session_id)?;
        self.context.store.session(session_id).await?.ok_or(Error::SessionNotFound(session_id))
    }

    /// Worker_id and tasks of a session, read from the store if it registered with another server or before a restart.
    pub(super) async fn known_session(&self, session_id: Uuid) -> Option<Known> {
        if let Some(known) = self.sessions.get(session_id) {
            return Some(known);
        }
        let found = self.context.store.session(session_id).await.ok().flatten()?.session;
        let known = Known { tasks: Tasks::of(&found.tasks), worker_id: found.worker_id };
        self.sessions.put(session_id, &known.worker_id, known.tasks.clone());
        Some(known)
    }

    /// Lists a page of sessions, and returns the token of the next page.
    pub async fn sessions(&self, request: v1::ListWorkersRequest) -> Result<(Vec<SessionRecord>, String)> {
        let mut violations = Violations::default();
        violations.name("worker_id", &request.worker_id, limits::WORKER_ID);
        let page_size = match violations.integer("page_size", request.page_size, 0..=limits::SESSIONS_PAGE) {
            0 => limits::SESSIONS_PAGE,
            size => size,
        };
        let list = format!("sessions/{}", request.worker_id);
        let after = match request.page_token.as_str() {
            "" => None,
            token => page::place(&list, token).map_err(|wrong| violations.add("page_token", wrong)).ok(),
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
            page::token(&list, &at)
        });
        Ok((found, next.unwrap_or_default()))
    }

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

/// Maximum bytes of a stored task besides its name: quotes, comma, and escapes of JSON.
const SESSION_BYTES_A_TASK: usize = 3 + limits::TASK;
/// Maximum bytes of the stored tasks of one session.
const LARGEST_SESSION: usize = limits::TASKS_PER_SESSION * (SESSION_BYTES_A_TASK + limits::TASK);

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

fn session_id(text: &str) -> Result<Uuid> {
    let mut violations = Violations::default();
    let id = violations.uuid("session_id", text);
    violations.finish().map(|()| id)
}

/// Extends the sessions of a group. Each session is passed to the store once: a worker that repeats a heartbeat whose
/// answer was slow may have two in one group.
pub(super) async fn flush(
    context: &super::Context,
    beats: Vec<Heartbeat>,
) -> StoreResult<Vec<Option<HeartbeatAnswer>>> {
    let mut places = HashMap::with_capacity(beats.len());
    let mut unique: Vec<Heartbeat> = Vec::with_capacity(beats.len());
    for beat in &beats {
        let place = *places.entry(beat.session_id).or_insert(unique.len());
        match unique.get_mut(place) {
            Some(first) => first.draining |= beat.draining,
            None => unique.push(*beat),
        }
    }
    let answers = context.store.heartbeat(&unique).await?;
    Ok(beats
        .iter()
        .map(|beat| places.get(&beat.session_id).and_then(|&at| answers.get(at).cloned().flatten()))
        .collect())
}

/// Cache of the worker_id and tasks of sessions. A poll listens for notifications of that worker_id before it acquires,
/// and is handed jobs of those tasks. A session that is not in the cache is looked up in the store.
#[derive(Default)]
pub(super) struct Sessions(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    sessions: HashMap<Uuid, Known>,
    /// Total number of tasks of these sessions.
    tasks: usize,
}

/// Properties of a session.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub worker_id: String,
    pub tasks: Tasks,
}

/// Maximum number of sessions in the cache, and of their tasks. Beyond either the cache is cleared.
const REMEMBERED: usize = 10_000;
const TASKS_REMEMBERED: usize = 1_000_000;

impl Sessions {
    pub(super) fn get(&self, session_id: Uuid) -> Option<Known> {
        self.0.lock().sessions.get(&session_id).cloned()
    }

    pub(super) fn put(&self, session_id: Uuid, worker_id: &str, tasks: Tasks) {
        let mut remembered = self.0.lock();
        if remembered.sessions.len() >= REMEMBERED || remembered.tasks + tasks.len() > TASKS_REMEMBERED {
            *remembered = Remembered::default();
        }
        remembered.tasks += tasks.len();
        let known = Known { worker_id: worker_id.to_owned(), tasks };
        let before = remembered.sessions.insert(session_id, known);
        remembered.tasks -= before.map_or(0, |known| known.tasks.len());
    }

    pub(super) fn forget(&self, session_id: Uuid) {
        let mut remembered = self.0.lock();
        let before = remembered.sessions.remove(&session_id);
        remembered.tasks -= before.map_or(0, |known| known.tasks.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembered_sessions_stay_bounded() {
        let sessions = Sessions::default();
        let tasks = Tasks::of(&["a".to_owned(), "b".to_owned()]);
        for n in 0..2 * REMEMBERED {
            sessions.put(Uuid::from_u128(n as u128), "w", tasks.clone());
            sessions.put(Uuid::from_u128(n as u128), "w", tasks.clone());
        }
        assert!(sessions.0.lock().sessions.len() <= REMEMBERED);
        let kept = sessions.0.lock().sessions.len();
        assert_eq!(sessions.0.lock().tasks, 2 * kept);
        let last = Uuid::from_u128(2 * REMEMBERED as u128 - 1);
        assert_eq!(sessions.get(last).map(|known| known.worker_id).as_deref(), Some("w"));
        sessions.forget(last);
        assert!(sessions.get(last).is_none());
        let thousand = Tasks::of(&(0..1_000).map(|n| n.to_string()).collect::<Vec<_>>());
        for n in 0..=TASKS_REMEMBERED / 1_000 {
            sessions.put(Uuid::from_u128(n as u128), "w", thousand.clone());
            assert!(sessions.0.lock().tasks <= TASKS_REMEMBERED);
        }
    }
}
