//! Cache of what polls need to know of their sessions.

use std::collections::HashMap;

use jobqueue_store::Store;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::queue::acquire::tasks::Tasks;

/// Cache of the worker_id and tasks of sessions. A poll listens for notifications of that worker_id before it acquires,
/// and is handed jobs of those tasks. A session that is not in the cache is looked up in the store.
#[derive(Default)]
pub(crate) struct SessionCache(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    sessions: HashMap<Uuid, CachedSession>,
    /// Total number of tasks of these sessions.
    tasks: usize,
}

/// Properties of a session.
#[derive(Clone, Debug)]
pub(crate) struct CachedSession {
    pub worker_id: String,
    pub tasks: Tasks,
}

/// Maximum number of sessions in the cache, and of their tasks. Beyond either the cache is cleared.
const REMEMBERED: usize = 10_000;
const TASKS_REMEMBERED: usize = 1_000_000;

impl SessionCache {
    pub(crate) fn get(&self, session_id: Uuid) -> Option<CachedSession> {
        self.0.lock().sessions.get(&session_id).cloned()
    }

    /// Properties of a session, read from the store if it registered with another server or before a restart.
    pub(crate) async fn known(&self, store: &dyn Store, session_id: Uuid) -> Option<CachedSession> {
        if let Some(known) = self.get(session_id) {
            return Some(known);
        }
        let found = store.session(session_id).await.ok().flatten()?.session;
        let known = CachedSession { tasks: Tasks::of(&found.tasks), worker_id: found.worker_id };
        self.put(session_id, &known.worker_id, known.tasks.clone());
        Some(known)
    }

    pub(crate) fn put(&self, session_id: Uuid, worker_id: &str, tasks: Tasks) {
        let mut remembered = self.0.lock();
        if remembered.sessions.len() >= REMEMBERED || remembered.tasks + tasks.len() > TASKS_REMEMBERED {
            *remembered = Remembered::default();
        }
        remembered.tasks += tasks.len();
        let known = CachedSession { worker_id: worker_id.to_owned(), tasks };
        let before = remembered.sessions.insert(session_id, known);
        remembered.tasks -= before.map_or(0, |known| known.tasks.len());
    }

    pub(crate) fn forget(&self, session_id: Uuid) {
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
        let sessions = SessionCache::default();
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
