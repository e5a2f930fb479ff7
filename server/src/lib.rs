//! The jobqueue server.
//!
//! Modules in reading order: [`config`] parses settings; [`transport`] accepts connections and limits what they hold;
//! [`router`] sends a request to the services of [`grpc`], to the [`dashboard`] or to [`metrics`], past the [`guard`];
//! [`queue`] holds the rules; [`database`] opens the [store](jobqueue_store), which keeps the jobs, with one of two drivers; [`background`] runs rescue, pruning
//! and health checks. [`Server`] starts all of these, and stops them in order.

pub mod background;
pub mod config;
pub mod dashboard;
pub mod database;
pub mod grpc;
pub mod guard;
mod meters;
pub mod metrics;
pub mod queue;
pub mod router;
pub mod shutdown;
pub mod telemetry;
pub mod transport;

use std::{future::Future, sync::Arc, time::Duration};

use anyhow::Context as _;
use background::health::Health;
use config::{Common, Serve};
use jobqueue_shared::limits;
use jobqueue_store::{Store, instrumented::Instrumented};
use queue::Queue;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};
use transport::{
    budget::Budget,
    listen::{self, Listeners},
    request_body::Reading,
    serve::serve,
};

/// Fraction (1/n) of the shutdown grace that is kept for the storage and background work after connections have ended.
const REST_OF_GRACE: u32 = 5;
/// Time without calls after which a stopping server closes its connections. Clients that receive its GOAWAY close
/// theirs in much less time; the others do not answer any more.
const LINGER: Duration = Duration::from_secs(1);

/// A server with an open database.
pub struct Server {
    config: Serve,
    store: Arc<dyn Store>,
    acquires: usize,
}

impl Server {
    /// Opens the database and migrates its schema.
    pub async fn open(common: &Common, config: Serve) -> anyhow::Result<Self> {
        jobqueue_store::failpoint::set_up();
        // The recorder has to exist before the first measurement.
        metrics::recorder().context("the metrics cannot be recorded")?;
        let options = common.connect_options();
        let store = database::connect(&options).await.with_context(|| format!("database {}", common.database_url))?;
        info!(database = %common.database_url, driver = store.name(), "the database is open");
        let acquires = (options.max_connections / 2).max(1) as usize;
        Ok(Self { config, store: Arc::new(Instrumented::new(store)), acquires })
    }

    /// Serves until `shutdown` completes, then lets calls under way finish, within the grace.
    pub async fn run(self, listeners: Listeners, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let Self { config, store, acquires } = self;
        // `draining`: no new work is accepted. `closing`: no further calls can come.
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
        background::start(&config, &store, &queue, &health, &tracker, [&draining, &closing])?;

        let reading = Reading {
            budget: Budget::new(config.transfer_memory as usize),
            patience: config.peer_timeout,
            message: limits::REQUEST_BYTES,
        };
        let grpc = grpc::routes::routes(&queue, health.reporter(), &draining, reading)?;
        let scrape = Arc::new(metrics::Scrape::new(metrics::recorder()?, Arc::clone(&queue)));
        let http = router::Http { scrape, readiness: health.readiness() };
        let calls = TaskTracker::new();
        let router = router::router(grpc, http, &config, &calls)?;
        let (grpc_addr, http_addr) = (listen::local_addr(&listeners.grpc)?, listen::local_addr(&listeners.http)?);
        let serving = TaskTracker::new();
        // Each address has its own limit, so that connections to one cannot lock probes and operators out of the other.
        let [for_grpc, for_http] = config.connections();
        for (listener, places) in [(listeners.grpc, for_grpc), (listeners.http, for_http)] {
            let places = Arc::new(Semaphore::new(places));
            serving.spawn(serve(listener, places, config.lifetimes(), router.clone(), draining.clone()));
        }
        serving.close();
        if config.insecure_allow_remote {
            warn!(%grpc_addr, %http_addr, "--insecure-allow-remote: whoever reaches these addresses may do everything");
        }
        info!(%grpc_addr, %http_addr, "listening");
        announce(grpc_addr, http_addr);

        shutdown.await;
        let deadline = Instant::now() + config.shutdown_grace;
        info!(grace = ?config.shutdown_grace, "shutting down");
        health.drain().await;
        draining.cancel();
        let for_calls = deadline - config.shutdown_grace / REST_OF_GRACE;
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
        Ok(())
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
fn announce(grpc_addr: std::net::SocketAddr, http_addr: std::net::SocketAddr) {
    let line = serde_json::json!({
        "listening": { "grpc_addr": grpc_addr.to_string(), "http_addr": http_addr.to_string() }
    });
    std::thread::spawn(move || telemetry::print(&line));
}
