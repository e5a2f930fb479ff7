//! Notifications to parked polls, here and at other servers: a worker_id may have runnable jobs, a session has to stop
//! a lease.
//!
//! They are hints and may be lost: polling finds the jobs, and heartbeats return the leases.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jobqueue_store::{Notification, Store};
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast, futures::Notified, watch};
use tokio_util::sync::CancellationToken;
use tracing::debug;
use uuid::Uuid;

use super::empty_looks::EmptyLooks;

/// Minimum time between two batches of notifications to other servers. One notification for each worker_id or session
/// is in a batch.
const SEND_INTERVAL: Duration = Duration::from_millis(10);

#[derive(Default)]
pub struct Notifier {
    pub(super) empty_looks: EmptyLooks,
    listeners: Mutex<HashMap<String, Arc<Notify>>>,
    /// Sessions with a parked poll here.
    sessions: Mutex<HashMap<Uuid, watch::Sender<()>>>,
    /// Notifications that other servers have not been sent yet. `None` on SQLite, which one server has to itself.
    unsent: Option<Unsent>,
}

#[derive(Default)]
struct Unsent {
    notifications: Mutex<HashSet<Notification>>,
    some: Notify,
}

/// Subscription to the notifications of one worker_id.
pub struct Listener {
    notifier: Arc<Notifier>,
    worker_id: String,
    notify: Arc<Notify>,
}

/// Subscription to the notifications that a session has to stop leases.
pub struct StopListener {
    notifier: Arc<Notifier>,
    session_id: Uuid,
    told: watch::Receiver<()>,
}

impl Notifier {
    /// Makes a notifier; `shared` if other servers can use the database.
    pub fn new(shared: bool) -> Arc<Self> {
        Arc::new(Self { unsent: shared.then(Unsent::default), ..Self::default() })
    }

    pub fn listen(self: &Arc<Self>, worker_id: &str) -> Listener {
        let mut listeners = self.listeners.lock();
        let notify = listeners.entry(worker_id.to_owned()).or_default();
        Listener { notifier: Arc::clone(self), worker_id: worker_id.to_owned(), notify: Arc::clone(notify) }
    }

    /// Wakes up to `jobs` listeners of this worker_id, because so many jobs became runnable, and notifies other
    /// servers.
    pub fn wake(&self, worker_id: &str, jobs: usize) {
        self.wake_here(worker_id, jobs);
        self.tell(|| Notification::Runnable(worker_id.to_owned()));
    }

    /// Wakes all listeners of this worker_id, here and at other servers, because a job waits for a session that handles
    /// its task. A listener does not know its session, so that the right one cannot be picked.
    pub fn wake_for_handler(&self, worker_id: &str) {
        self.wake_all_of(worker_id);
        self.tell(|| Notification::ForHandler(worker_id.to_owned()));
    }

    pub fn listen_for_stops(self: &Arc<Self>, session_id: Uuid) -> StopListener {
        let mut sessions = self.sessions.lock();
        let told = sessions.entry(session_id).or_insert_with(|| watch::Sender::new(())).subscribe();
        StopListener { notifier: Arc::clone(self), session_id, told }
    }

    /// Notifies all parked polls of this session, here and at other servers, that one of its leases was ended by
    /// others.
    pub fn stop(&self, session_id: Uuid) {
        self.stop_here(session_id);
        self.tell(|| Notification::Stopped(session_id));
    }

    fn stop_here(&self, session_id: Uuid) {
        if let Some(told) = self.sessions.lock().get(&session_id) {
            told.send_replace(());
        }
    }

    fn tell(&self, notification: impl FnOnce() -> Notification) {
        if let Some(unsent) = &self.unsent
            && unsent.notifications.lock().insert(notification())
        {
            unsent.some.notify_one();
        }
    }

    /// Wakes up to `jobs` listeners of this worker_id here. One listener a job suffices: an acquire that gets as many
    /// jobs as it asked for wakes the next listener.
    pub fn wake_here(&self, worker_id: &str, jobs: usize) {
        self.empty_looks.notified(worker_id);
        let listeners = self.listeners.lock();
        if let Some(notify) = listeners.get(worker_id) {
            // The map holds one of the references.
            for _ in 0..jobs.min(Arc::strong_count(notify) - 1) {
                notify.notify_one();
            }
        }
    }

    fn wake_all_of(&self, worker_id: &str) {
        self.empty_looks.notified(worker_id);
        if let Some(notify) = self.listeners.lock().get(worker_id) {
            notify.notify_waiters();
        }
    }

    fn wake_all(&self) {
        self.empty_looks.clear();
        for notify in self.listeners.lock().values() {
            notify.notify_waiters();
        }
        for told in self.sessions.lock().values() {
            told.send_replace(());
        }
    }

    /// Sends notifications to other servers until `stop` is cancelled.
    pub async fn announce(self: Arc<Self>, store: Arc<dyn Store>, stop: CancellationToken) {
        let Some(unsent) = &self.unsent else { return };
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = unsent.some.notified() => {}
            }
            let notifications: Vec<_> = unsent.notifications.lock().drain().collect();
            if let Err(error) = store.announce(&notifications).await {
                debug!(%error, notifications = notifications.len(), "other servers were not told of runnable jobs and stopped leases");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(SEND_INTERVAL) => {}
            }
        }
    }

    /// Receives notifications of other servers until `stop` is cancelled.
    pub async fn hear(self: Arc<Self>, mut notifications: broadcast::Receiver<Notification>, stop: CancellationToken) {
        loop {
            let heard = tokio::select! {
                () = stop.cancelled() => return,
                heard = notifications.recv() => heard,
            };
            match heard {
                Ok(Notification::Runnable(worker_id)) => self.wake_here(&worker_id, 1),
                Ok(Notification::ForHandler(worker_id)) => self.wake_all_of(&worker_id),
                Ok(Notification::Stopped(session_id)) => self.stop_here(session_id),
                Err(broadcast::error::RecvError::Lagged(_)) => self.wake_all(),
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }
}

impl Listener {
    /// Completes at a notification that comes after the future was enabled or first polled. A future that is dropped
    /// after it was notified passes the notification on.
    pub fn notified(&self) -> Notified<'_> {
        self.notify.notified()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut listeners = self.notifier.listeners.lock();
        // The map's reference and this one are the last.
        if Arc::strong_count(&self.notify) == 2 {
            listeners.remove(&self.worker_id);
        }
    }
}

impl StopListener {
    /// Completes when the session was notified since the subscription, or since this last completed.
    pub async fn told(&mut self) {
        if self.told.changed().await.is_err() {
            // The sender lives as long as a receiver does.
            std::future::pending::<()>().await;
        }
    }

    /// Whether the session was notified and `told` has not completed since.
    pub fn is_told(&self) -> bool {
        self.told.has_changed().unwrap_or_default()
    }
}

impl Drop for StopListener {
    fn drop(&mut self) {
        let mut sessions = self.notifier.sessions.lock();
        // This is the last receiver.
        if sessions.get(&self.session_id).is_some_and(|told| told.receiver_count() == 1) {
            sessions.remove(&self.session_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn one_job_wakes_one_listener_and_only_of_its_worker_id() {
        let notifier = Notifier::new(false);
        let (a, b, other) = (notifier.listen("x"), notifier.listen("x"), notifier.listen("y"));
        let (mut a, mut b, mut other) = (pin!(a.notified()), pin!(b.notified()), pin!(other.notified()));
        for waiting in [&mut a, &mut b, &mut other] {
            waiting.as_mut().enable();
        }
        notifier.wake("x", 1);
        assert!(poll!(&mut a).is_ready());
        assert!(poll!(&mut b).is_pending());
        assert!(poll!(&mut other).is_pending());
        notifier.wake("x", 1_000);
        assert!(poll!(&mut b).is_ready());
    }

    #[tokio::test]
    async fn a_call_to_someone_who_left_goes_to_the_next() {
        let notifier = Notifier::new(false);
        let (a, b) = (notifier.listen("x"), notifier.listen("x"));
        let mut stays = pin!(b.notified());
        {
            let mut leaves = pin!(a.notified());
            leaves.as_mut().enable();
            stays.as_mut().enable();
            notifier.wake("x", 1);
        }
        assert!(poll!(&mut stays).is_ready());
    }

    #[tokio::test]
    async fn a_call_between_looking_and_waiting_is_not_lost() {
        let notifier = Notifier::new(false);
        let listener = notifier.listen("x");
        let mut notified = pin!(listener.notified());
        notified.as_mut().enable();
        notifier.wake("x", 1);
        notified.await;
    }

    #[test]
    fn nothing_stays_behind_for_those_who_left() {
        let notifier = Notifier::new(false);
        let (a, b) = (notifier.listen("x"), notifier.listen("x"));
        drop(a);
        assert_eq!(notifier.listeners.lock().len(), 1);
        drop(b);
        assert!(notifier.listeners.lock().is_empty());
        notifier.wake("x", 1);
    }

    #[tokio::test]
    async fn other_servers_wake_listeners_here_and_a_lagging_one_wakes_all() {
        let notifier = Notifier::new(true);
        let (sender, receiver) = broadcast::channel(1);
        let stop = CancellationToken::new();
        let (x, y) = (notifier.listen("x"), notifier.listen("y"));
        let (mut x, mut y) = (pin!(x.notified()), pin!(y.notified()));
        x.as_mut().enable();
        y.as_mut().enable();
        let mut stops = notifier.listen_for_stops(Uuid::from_u128(1));
        for worker_id in ["z", "x"] {
            sender.send(Notification::Runnable(worker_id.to_owned())).unwrap();
        }
        let task = tokio::spawn(Arc::clone(&notifier).hear(receiver, stop.clone()));
        x.await;
        y.await;
        stops.told().await;
        stop.cancel();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_stop_reaches_every_call_of_its_session_and_no_other() {
        let notifier = Notifier::new(false);
        let (session_id, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        notifier.stop(session_id);
        let mut calls = [notifier.listen_for_stops(session_id), notifier.listen_for_stops(session_id)];
        let mut stranger = notifier.listen_for_stops(other);
        assert!(!calls[0].is_told(), "what came before is no news");
        notifier.stop(session_id);
        for call in &mut calls {
            assert!(call.is_told());
            call.told().await;
            assert!(!call.is_told());
        }
        assert!(poll!(pin!(stranger.told())).is_pending());
        let [one, two] = calls;
        drop(one);
        assert_eq!(notifier.sessions.lock().len(), 2);
        drop((two, stranger));
        assert!(notifier.sessions.lock().is_empty());
    }

    #[tokio::test]
    async fn other_servers_are_told_of_stops_once() {
        let notifier = Notifier::new(true);
        let session_id = Uuid::from_u128(1);
        notifier.stop(session_id);
        notifier.stop(session_id);
        notifier.wake("x", 1);
        let unsent = notifier.unsent.as_ref().unwrap();
        let expected = HashSet::from([Notification::Stopped(session_id), Notification::Runnable("x".to_owned())]);
        assert_eq!(*unsent.notifications.lock(), expected);
    }
}
