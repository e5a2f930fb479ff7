//! The server: starts every part, and stops them in order.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use jobqueue_shared::limits;
use jobqueue_store::{Store, instrumented::Instrumented};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    background::{self, health::Health},
    config::{Common, Serve},
    dashboard::Files,
    database,
    grpc::{self, request_body::Reading},
    log, metrics,
    queue::{self, Queue},
    router,
    transport::{
        bind::{self, Listeners},
        budget::Budget,
        serve::{Lifetimes, serve},
        tls::{self, Tls},
    },
};

/// Fraction (1/n) of the shutdown grace that is kept for the storage and background work after connections have ended.
const REST_OF_GRACE: u32 = 5;
/// Time without calls after which a stopping server closes its connections. Clients that receive its GOAWAY close
/// theirs in much less time; the others do not answer any more.
const LINGER: Duration = Duration::from_secs(1);

/// A server with an open database.
pub struct Server {
    config: Serve,
    dashboard: Arc<Files>,
    tls: Option<Arc<Tls>>,
    store: Arc<dyn Store>,
    acquires: usize,
}

impl Server {
    /// Reads the dashboard, opens the database and migrates its schema.
    pub async fn open(common: &Common, config: Serve) -> anyhow::Result<Self> {
        jobqueue_store::failpoint::set_up();
        let dashboard = match &config.dashboard_dir {
            Some(folder) => Files::read(folder).context("--dashboard-dir")?,
            None => Files::embedded(),
        };
        let tls = config.tls.files().map_err(anyhow::Error::msg)?.map(Tls::new).transpose()?.map(Arc::new);
        // The recorder has to exist before the first measurement.
        metrics::recorder().context("the metrics cannot be recorded")?;
        let options = common.connect_options();
        let store = database::connect(&options).await.with_context(|| format!("database {}", common.database_url))?;
        info!(database = %common.database_url, driver = store.name(), "the database is open");
        let acquires = (options.max_connections / 2).max(1) as usize;
        let dashboard = Arc::new(dashboard);
        Ok(Self { config, dashboard, tls, store: Arc::new(Instrumented::new(store)), acquires })
    }

    /// Serves until `shutdown` completes, then lets calls under way finish, within the grace.
    pub async fn run(self, listeners: Listeners, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let grace = self.config.shutdown_grace;
        let running = self.start(listeners).await?;
        shutdown.await;
        running.stop(grace).await;
        Ok(())
    }

    async fn start(self, listeners: Listeners) -> anyhow::Result<Running> {
        let Self { config, dashboard, tls, store, acquires } = self;
        let (draining, closing) = (CancellationToken::new(), CancellationToken::new());
        let tracker = TaskTracker::new();
        let options = queue::Options {
            payload_bytes: config.max_payload_bytes as usize,
            acquires,
            draining: draining.clone(),
            closing: closing.clone(),
        };
        let queue = Arc::new(Queue::new(Arc::clone(&store), options, &tracker));
        let health = Arc::new(Health::new().await);
        health.run_once(&*store, &queue.context.clock).await;
        // Before rescue, so that no lease ends because of an outage.
        if let Err(error) = background::note_heard::run_once(&*store).await {
            warn!(%error, "it could not be noted that workers are heard again; it is tried again");
        }
        background::start::start(&config, &store, &queue, &health, &tracker, [&draining, &closing])?;

        let reading = Reading {
            budget: Budget::new(config.transfer_memory as usize),
            patience: config.peer_timeout,
            message: limits::REQUEST_BYTES,
        };
        let grpc = grpc::routes::routes(&queue, health.reporter(), &draining, reading)?;
        let scrape = Arc::new(metrics::Scrape::new(metrics::recorder()?, Arc::clone(&queue)));
        let http = router::Http { scrape, readiness: health.readiness(), dashboard };
        let calls = TaskTracker::new();
        let router = router::router(grpc, http, &config, &calls)?;
        let (grpc_addr, http_addr) = (bind::local_addr(&listeners.grpc)?, bind::local_addr(&listeners.http)?);
        let lifetimes =
            Lifetimes { idle: config.connection_idle, age: config.connection_age, unread: config.peer_timeout };
        let serving = TaskTracker::new();
        // Each address has its own limit, so that connections to one cannot lock probes and operators out of the other.
        let [for_grpc, for_http] = config.connections();
        for (listener, places) in [(listeners.grpc, for_grpc), (listeners.http, for_http)] {
            let places = Arc::new(Semaphore::new(places));
            serving.spawn(serve(listener, places, tls.clone(), lifetimes, router.clone(), draining.clone()));
        }
        serving.close();
        if let Some(tls) = tls {
            tracker.spawn(tls::keep_current(tls, closing.clone()));
        }
        if config.insecure_allow_remote {
            warn!(%grpc_addr, %http_addr, "--insecure-allow-remote: whoever reaches these addresses may do everything");
        }
        info!(%grpc_addr, %http_addr, "listening");
        announce(grpc_addr, http_addr);
        Ok(Running { store, health, draining, closing, calls, serving, tracker })
    }
}

/// Parts of a server that serves.
struct Running {
    store: Arc<dyn Store>,
    health: Arc<Health>,
    /// Cancelled when no new work is accepted.
    draining: CancellationToken,
    /// Cancelled when no further calls can come.
    closing: CancellationToken,
    /// Calls under way.
    calls: TaskTracker,
    /// Listeners and their connections.
    serving: TaskTracker,
    /// Tasks of the queue and of background work.
    tracker: TaskTracker,
}

impl Running {
    async fn stop(self, grace: Duration) {
        let Self { store, health, draining, closing, calls, serving, tracker } = self;
        let deadline = Instant::now() + grace;
        info!(?grace, "shutting down");
        health.drain().await;
        draining.cancel();
        let for_calls = deadline - grace / REST_OF_GRACE;
        tokio::select! {
            () = serving.wait() => {}
            () = quiet(&calls) => info!("closing connections whose clients do not answer"),
            () = sleep_until(for_calls) => {
                warn!("calls were still under way at the end of the grace; they are cut off");
            }
        }
        closing.cancel();
        tracker.close();
        let rest = async {
            tracker.wait().await;
            store.close().await;
        };
        if timeout_at(deadline, rest).await.is_err() {
            warn!("the storage was still busy at the end of the grace");
        }
        info!("stopped");
    }
}

/// Completes when no call has been under way for [`LINGER`].
async fn quiet(calls: &TaskTracker) {
    calls.close();
    loop {
        calls.wait().await;
        sleep(LINGER).await;
        if calls.is_empty() {
            return;
        }
    }
}

/// Prints the addresses as one JSON line on stdout, for the program that started this one; logs are for people. A
/// thread of its own prints it, because stdout may never be read.
fn announce(grpc_addr: SocketAddr, http_addr: SocketAddr) {
    let line = serde_json::json!({
        "listening": { "grpc_addr": grpc_addr.to_string(), "http_addr": http_addr.to_string() }
    });
    std::thread::spawn(move || log::print(&line));
}
