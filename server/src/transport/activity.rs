//! Activity of one connection: its calls, and the data that its peer has not read yet.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Counters that a connection's calls and answers update, and that its driver checks.
#[derive(Debug, Default)]
pub struct Activity {
    /// Address of the peer, if the connection had one when it was accepted.
    peer: Option<IpAddr>,
    started: AtomicUsize,
    ended: AtomicUsize,
    /// Number of the current period. A period is as long as a peer may take to read something.
    period: AtomicUsize,
    /// Number of pieces that wait to be read by the peer, from even periods and from odd ones.
    unread: [AtomicUsize; 2],
}

impl Activity {
    pub(crate) fn of(peer: Option<IpAddr>) -> Self {
        Self { peer, ..Self::default() }
    }

    pub(crate) fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// Counts a call as under way while the guard lives.
    pub(crate) fn call(self: &Arc<Self>) -> UnderWay {
        self.started.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// Counts a piece as unread while the guard lives.
    pub(crate) fn unread(self: &Arc<Self>) -> Unread {
        let parity = self.period.load(Ordering::Relaxed) % 2;
        self.unread[parity].fetch_add(1, Ordering::Relaxed);
        Unread { activity: Arc::clone(self), parity }
    }

    /// Number of calls so far, and whether one is under way.
    pub(crate) fn calls(&self) -> (usize, bool) {
        let (ended, started) = (self.ended.load(Ordering::Relaxed), self.started.load(Ordering::Relaxed));
        (started, started != ended)
    }

    /// Begins the next period. True if a piece has waited for the whole of the last one.
    pub(crate) fn next_period(&self) -> bool {
        let next = self.period.load(Ordering::Relaxed) + 1;
        let stalled = self.unread[next % 2].load(Ordering::Relaxed) > 0;
        self.period.store(next, Ordering::Relaxed);
        stalled
    }
}

#[derive(Debug)]
pub(crate) struct UnderWay(Arc<Activity>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(crate) struct Unread {
    activity: Arc<Activity>,
    parity: usize,
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.activity.unread[self.parity].fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_stalled_after_a_whole_period_and_not_before() {
        let activity = Arc::new(Activity::default());
        let stuck = activity.unread();
        assert!(!activity.next_period());
        let moving = activity.unread();
        assert!(activity.next_period());
        drop(stuck);
        drop(moving);
        assert!(!activity.next_period());
        assert!(!activity.next_period());
    }

    #[test]
    fn a_call_is_under_way_until_its_guard_is_dropped() {
        let activity = Arc::new(Activity::default());
        assert_eq!(activity.calls(), (0, false));
        let call = activity.call();
        assert_eq!(activity.calls(), (1, true));
        drop(call);
        assert_eq!(activity.calls(), (1, false));
    }
}
