//! Connections that the workers of one process share: the calls of several sessions travel in the same packets, which
//! is most of what small calls cost.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use jobqueue_shared::limits;
use parking_lot::Mutex;
use tokio::runtime::{self, Handle};
use tonic::transport::Channel;

use crate::connection::{address::BadServer, channel, tls::Tls};

/// Maximum number of concurrent calls of one worker on its connection: three acquires, two settles, and one each for
/// progress and for the session itself.
const CALLS_PER_WORKER: usize = 7;

/// Maximum number of workers on one connection. A server accepts only so many concurrent calls on a connection, and a
/// long poll is one: with more workers, their settlements would wait for polls to end.
const WORKERS_PER_CONNECTION: usize = limits::CALLS_PER_CONNECTION / CALLS_PER_WORKER;

/// Connections in use, in all runtimes of this process.
static IN_USE: Mutex<Vec<Weak<SharedChannel>>> = Mutex::new(Vec::new());

/// Channel of up to [`WORKERS_PER_CONNECTION`] workers, closed when the last of them drops it.
pub(crate) struct SharedChannel {
    endpoint: String,
    tls: Tls,
    /// Silence after which the connection counts as lost.
    silence: Duration,
    /// Runtime that drives the connection, which ends with it.
    runtime: runtime::Id,
    channel: Channel,
}

impl SharedChannel {
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }
}

/// Channel to the server at `endpoint` like [`channel::plain`], driven by the current runtime. Shared with other workers
/// of this runtime whose connection has the same endpoint, TLS and silence.
///
/// # Panics
/// Outside a runtime.
pub(crate) fn connect(endpoint: &str, tls: &Tls, silence: Duration) -> Result<Arc<SharedChannel>, BadServer> {
    let runtime = Handle::current().id();
    let mut in_use = IN_USE.lock();
    in_use.retain(|channel| channel.strong_count() > 0);
    let shared = in_use.iter().filter(|channel| channel.strong_count() < WORKERS_PER_CONNECTION);
    let mut shared = shared.filter_map(Weak::upgrade);
    let fits = |it: &Arc<SharedChannel>| {
        it.runtime == runtime && it.silence == silence && it.endpoint == endpoint && it.tls == *tls
    };
    if let Some(channel) = shared.find(fits) {
        return Ok(channel);
    }
    let channel = channel::plain(endpoint, tls, silence)?;
    let new = Arc::new(SharedChannel { endpoint: endpoint.to_owned(), tls: tls.clone(), silence, runtime, channel });
    in_use.push(Arc::downgrade(&new));
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Duration = Duration::from_secs(15);

    fn same(one: &Arc<SharedChannel>, other: &Arc<SharedChannel>) -> bool {
        Arc::ptr_eq(one, other)
    }

    #[tokio::test]
    async fn workers_of_one_server_share_a_connection_until_it_is_full() {
        let connect = || connect("http://127.0.0.1:1", &Tls::new(), SILENCE).unwrap();
        let first = connect();
        let mut full: Vec<_> = (1..WORKERS_PER_CONNECTION).map(|_| connect()).collect();
        assert!(full.iter().all(|it| same(it, &first)));
        let next = connect();
        assert!(!same(&next, &first) && same(&connect(), &next));
        full.pop();
        assert!(same(&connect(), &first), "a worker has ended");
    }

    #[tokio::test]
    async fn another_server_lease_or_runtime_has_another_connection() {
        const ENDPOINT: &str = "http://127.0.0.1:2";
        let first = connect(ENDPOINT, &Tls::new(), SILENCE).unwrap();
        assert!(same(&first, &connect(ENDPOINT, &Tls::new(), SILENCE).unwrap()));
        assert!(!same(&first, &connect("http://127.0.0.1:3", &Tls::new(), SILENCE).unwrap()));
        assert!(!same(&first, &connect(ENDPOINT, &Tls::new(), SILENCE / 2).unwrap()));
        let elsewhere = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { connect(ENDPOINT, &Tls::new(), SILENCE).unwrap() })
        });
        assert!(!same(&first, &elsewhere.join().unwrap()));
        assert!(connect("localhost", &Tls::new(), SILENCE).is_err());
    }
}
