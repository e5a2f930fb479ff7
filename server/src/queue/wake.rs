//! Calls for those who wait: there may be jobs of a worker_id, a session has to stop something. Hints: polling and
//! heartbeats are the truth, so one may be lost.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, broadcast, futures::Notified, watch};
use tokio_util::sync::CancellationToken;
use tracing::debug;
use uuid::Uuid;

use crate::store::{Hint, Store};

/// Other servers hear of one worker_id or session at most once in this time.
const QUIET: Duration = Duration::from_millis(10);

#[derive(Default)]
pub struct Wakes {
    listeners: Mutex<HashMap<String, Arc<Notify>>>,
    /// Sessions that wait for jobs here.
    sessions: Mutex<HashMap<Uuid, watch::Sender<()>>>,
    /// What other servers have not been told yet. `None`: there are no other servers.
    untold: Option<Untold>,
}

#[derive(Default)]
struct Untold {
    hints: Mutex<HashSet<Hint>>,
    some: Notify,
}

/// Somebody who waits for jobs of one worker_id.
pub struct Listener {
    hub: Arc<Wakes>,
    worker_id: String,
    notify: Arc<Notify>,
}

/// A session that would stop what it is told to while it waits for jobs.
pub struct Stops {
    hub: Arc<Wakes>,
    session_id: Uuid,
    told: watch::Receiver<()>,
}

impl Wakes {
    /// `others`: other servers may work on the same database.
    pub fn new(others: bool) -> Arc<Self> {
        Arc::new(Self { untold: others.then(Untold::default), ..Self::default() })
    }

    pub fn listen(self: &Arc<Self>, worker_id: &str) -> Listener {
        let mut listeners = lock(&self.listeners);
        let notify = listeners.entry(worker_id.to_owned()).or_default();
        Listener { hub: Arc::clone(self), worker_id: worker_id.to_owned(), notify: Arc::clone(notify) }
    }

    /// `jobs` of this worker_id became runnable here: so many listeners look, and other servers are told.
    pub fn wake(&self, worker_id: &str, jobs: usize) {
        self.wake_here(worker_id, jobs);
        self.tell(|| Hint::Runnable(worker_id.to_owned()));
    }

    /// Jobs of this worker_id wait for a session that handles their task: all look, here and at other servers, for it is
    /// not known whose listener is whose.
    pub fn wake_for_handler(&self, worker_id: &str) {
        self.wake_all_of(worker_id);
        self.tell(|| Hint::ForHandler(worker_id.to_owned()));
    }

    pub fn listen_for_stops(self: &Arc<Self>, session_id: Uuid) -> Stops {
        let mut sessions = lock(&self.sessions);
        let told = sessions.entry(session_id).or_insert_with(|| watch::Sender::new(())).subscribe();
        Stops { hub: Arc::clone(self), session_id, told }
    }

    /// Somebody else ended a lease of this session: all its calls look, and other servers are told.
    pub fn stop(&self, session_id: Uuid) {
        self.stop_here(session_id);
        self.tell(|| Hint::Stopped(session_id));
    }

    fn stop_here(&self, session_id: Uuid) {
        if let Some(told) = lock(&self.sessions).get(&session_id) {
            told.send_replace(());
        }
    }

    fn tell(&self, hint: impl FnOnce() -> Hint) {
        if let Some(untold) = &self.untold
            && lock(&untold.hints).insert(hint())
        {
            untold.some.notify_one();
        }
    }

    /// At most one listener a job, or they would all ask for it and all but one in vain. Who finds that there is
    /// more than it may take wakes the next.
    pub fn wake_here(&self, worker_id: &str, jobs: usize) {
        let listeners = lock(&self.listeners);
        if let Some(notify) = listeners.get(worker_id) {
            // The map's own reference is no listener.
            for _ in 0..jobs.min(Arc::strong_count(notify) - 1) {
                notify.notify_one();
            }
        }
    }

    fn wake_all_of(&self, worker_id: &str) {
        if let Some(notify) = lock(&self.listeners).get(worker_id) {
            notify.notify_waiters();
        }
    }

    fn wake_all(&self) {
        for notify in lock(&self.listeners).values() {
            notify.notify_waiters();
        }
        for told in lock(&self.sessions).values() {
            told.send_replace(());
        }
    }

    /// Tells other servers, until `stop`.
    pub async fn announce(self: Arc<Self>, store: Arc<dyn Store>, stop: CancellationToken) {
        let Some(untold) = &self.untold else { return };
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = untold.some.notified() => {}
            }
            let hints: Vec<_> = lock(&untold.hints).drain().collect();
            if let Err(error) = store.announce(&hints).await {
                debug!(%error, hints = hints.len(), "other servers were not told of runnable jobs and stopped leases");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(QUIET) => {}
            }
        }
    }

    /// Listens to other servers, until `stop`.
    pub async fn hear(self: Arc<Self>, mut wakes: broadcast::Receiver<Hint>, stop: CancellationToken) {
        loop {
            let heard = tokio::select! {
                () = stop.cancelled() => return,
                heard = wakes.recv() => heard,
            };
            match heard {
                Ok(Hint::Runnable(worker_id)) => self.wake_here(&worker_id, 1),
                Ok(Hint::ForHandler(worker_id)) => self.wake_all_of(&worker_id),
                Ok(Hint::Stopped(session_id)) => self.stop_here(session_id),
                Err(broadcast::error::RecvError::Lagged(_)) => self.wake_all(),
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }
}

impl Listener {
    /// Completes at a wake-up call that comes after this was enabled or first polled. One that is dropped after it
    /// was called passes the call on.
    pub fn notified(&self) -> Notified<'_> {
        self.notify.notified()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut listeners = lock(&self.hub.listeners);
        // The map's reference and this one: nobody else listens.
        if Arc::strong_count(&self.notify) == 2 {
            listeners.remove(&self.worker_id);
        }
    }
}

impl Stops {
    /// Completes when the session was told since this was made, or since it last completed.
    pub async fn told(&mut self) {
        if self.told.changed().await.is_err() {
            // The sender stays as long as somebody listens.
            std::future::pending::<()>().await;
        }
    }

    /// The session was told, and nobody has looked.
    pub fn is_told(&self) -> bool {
        self.told.has_changed().unwrap_or_default()
    }
}

impl Drop for Stops {
    fn drop(&mut self) {
        let mut sessions = lock(&self.hub.sessions);
        // This one: nobody else listens.
        if sessions.get(&self.session_id).is_some_and(|told| told.receiver_count() == 1) {
            sessions.remove(&self.session_id);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn one_job_wakes_one_listener_and_only_of_its_worker_id() {
        let hub = Wakes::new(false);
        let (a, b, other) = (hub.listen("x"), hub.listen("x"), hub.listen("y"));
        let (mut a, mut b, mut other) = (pin!(a.notified()), pin!(b.notified()), pin!(other.notified()));
        for waiting in [&mut a, &mut b, &mut other] {
            waiting.as_mut().enable();
        }
        hub.wake("x", 1);
        assert!(poll!(&mut a).is_ready());
        assert!(poll!(&mut b).is_pending());
        assert!(poll!(&mut other).is_pending());
        hub.wake("x", 1_000);
        assert!(poll!(&mut b).is_ready());
    }

    #[tokio::test]
    async fn a_call_to_someone_who_left_goes_to_the_next() {
        let hub = Wakes::new(false);
        let (a, b) = (hub.listen("x"), hub.listen("x"));
        let mut stays = pin!(b.notified());
        {
            let mut leaves = pin!(a.notified());
            leaves.as_mut().enable();
            stays.as_mut().enable();
            hub.wake("x", 1);
        }
        assert!(poll!(&mut stays).is_ready());
    }

    #[tokio::test]
    async fn a_call_between_looking_and_waiting_is_not_lost() {
        let hub = Wakes::new(false);
        let listener = hub.listen("x");
        let mut notified = pin!(listener.notified());
        notified.as_mut().enable();
        hub.wake("x", 1);
        notified.await;
    }

    #[test]
    fn nothing_stays_behind_for_those_who_left() {
        let hub = Wakes::new(false);
        let (a, b) = (hub.listen("x"), hub.listen("x"));
        drop(a);
        assert_eq!(lock(&hub.listeners).len(), 1);
        drop(b);
        assert!(lock(&hub.listeners).is_empty());
        hub.wake("x", 1);
    }

    #[tokio::test]
    async fn other_servers_wake_listeners_here_and_a_lagging_one_wakes_all() {
        let hub = Wakes::new(true);
        let (sender, receiver) = broadcast::channel(1);
        let stop = CancellationToken::new();
        let (x, y) = (hub.listen("x"), hub.listen("y"));
        let (mut x, mut y) = (pin!(x.notified()), pin!(y.notified()));
        x.as_mut().enable();
        y.as_mut().enable();
        let mut stops = hub.listen_for_stops(Uuid::from_u128(1));
        for worker_id in ["z", "x"] {
            sender.send(Hint::Runnable(worker_id.to_owned())).unwrap();
        }
        let task = tokio::spawn(Arc::clone(&hub).hear(receiver, stop.clone()));
        x.await;
        y.await;
        stops.told().await;
        stop.cancel();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_stop_reaches_every_call_of_its_session_and_no_other() {
        let hub = Wakes::new(false);
        let (session_id, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        hub.stop(session_id);
        let mut calls = [hub.listen_for_stops(session_id), hub.listen_for_stops(session_id)];
        let mut stranger = hub.listen_for_stops(other);
        assert!(!calls[0].is_told(), "what came before is no news");
        hub.stop(session_id);
        for call in &mut calls {
            assert!(call.is_told());
            call.told().await;
            assert!(!call.is_told());
        }
        assert!(poll!(pin!(stranger.told())).is_pending());
        let [one, two] = calls;
        drop(one);
        assert_eq!(lock(&hub.sessions).len(), 2);
        drop((two, stranger));
        assert!(lock(&hub.sessions).is_empty());
    }

    #[tokio::test]
    async fn other_servers_are_told_of_stops_once() {
        let hub = Wakes::new(true);
        let session_id = Uuid::from_u128(1);
        hub.stop(session_id);
        hub.stop(session_id);
        hub.wake("x", 1);
        let untold = hub.untold.as_ref().unwrap();
        let expected = HashSet::from([Hint::Stopped(session_id), Hint::Runnable("x".to_owned())]);
        assert_eq!(*lock(&untold.hints), expected);
    }
}
