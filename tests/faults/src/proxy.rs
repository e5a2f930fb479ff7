//! A TCP proxy whose network can be made bad while it runs.

use std::{io, net::SocketAddr, time::Duration};

/// Listens on a port of its own and forwards to a target. Dropping it closes everything.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
}

/// What the network does to bytes from now on, in both directions unless it says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// How late bytes arrive.
    pub latency: Duration,
    /// No bytes arrive at the target. They are not lost: as with TCP, they arrive when this ends.
    pub block_to_target: bool,
    /// No bytes arrive at the client.
    pub block_to_client: bool,
    /// New connections are reset.
    pub refuse: bool,
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub accepted: u64,
    pub refused: u64,
    /// Connections that were reset by [`Proxy::reset_all`] or [`Proxy::retarget`].
    pub reset: u64,
    /// Connections that [`Proxy::half_open`] left open and dead.
    pub half_open: u64,
    /// Reads that had to wait for a blocked direction.
    pub held: u64,
    /// Chunks that arrived late.
    pub delayed: u64,
}

impl Proxy {
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        Ok(Self { addr: target })
    }

    /// Where clients connect to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn set(&self, weather: Weather) {
        let _ = weather;
    }

    /// The network is good again. Connections that [`Proxy::half_open`] left dead stay dead.
    pub fn heal(&self) {
        self.set(Weather::default());
    }

    /// Resets every connection; returns how many.
    pub fn reset_all(&self) -> u64 {
        0
    }

    /// The peer of every connection of now vanishes without a word: the sockets stay open, nothing passes any more,
    /// not even an end. New connections work. Returns how many.
    pub fn half_open(&self) -> u64 {
        0
    }

    /// New connections go to `target`; those of now are reset.
    pub fn retarget(&self, target: SocketAddr) {
        let _ = target;
    }

    pub fn counts(&self) -> Counts {
        Counts::default()
    }
}
