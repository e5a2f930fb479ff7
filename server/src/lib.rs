//! The jobqueue server.
//!
//! In reading order: [`config`] is what it is told; [`listen`] where it listens; [`router`] sends a request to the
//! services of [`grpc`], to the [`dashboard`] or to [`metrics`], past the [`guard`]; [`queue`] holds the rules;
//! [`store`] keeps the jobs, in one of two drivers; [`background`] does what nobody asks for. [`Server`], here,
//! puts them together, and takes them apart when it is told to stop.

pub mod background;
pub mod config;
pub mod dashboard;
mod failpoint;
pub mod grpc;
pub mod guard;
pub mod listen;
mod meters;
pub mod metrics;
pub mod queue;
pub mod router;
pub mod shutdown;
pub mod store;
pub mod telemetry;

use std::{future::Future, sync::Arc, time::Duration};

use anyhow::Context as _;
use background::{
    fold,
    health::Health,
    poll,
    prune::{self, Pruner},
    rescue, upkeep,
};
use config::{Common, Serve};
use jobqueue_shared::limits;
use listen::Listeners;
use queue::Queue;
use store::{Store, measured::Measured};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{service::Routes, transport};
use tracing::{debug_span, info, warn};

const HEALTH_EVERY: Duration = Duration::from_secs(1);
const POLL_EVERY: Duration = Duration::from_secs(1);
const FOLD_EVERY: Duration = Duration::from_secs(1);
const PRUNE_EVERY: Duration = Duration::from_mins(1);
const UPKEEP_EVERY: Duration = Duration::from_secs(1);
const METRICS_EVERY: Duration = Duration::from_secs(5);

/// HTTP/2 on a connection: calls at once, resets before it is closed as abusive, and bytes in flight.
const STREAMS: u32 = 128;
const RESETS: usize = 1_024;
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * STREAM_WINDOW;
/// A peer that does not answer a ping within the second is gone.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_PATIENCE: Duration = Duration::from_secs(15);
/// No answer takes longer, a long poll included; it also ends requests whose body never comes.
const CALL: Duration = Duration::from_millis(2 * limits::ACQUIRE_WAIT_MS as u64);
/// The part of the grace in which, after the connections, the rest has to end.
const REST_OF_GRACE: u32 = 5;
/// A stopping server's clients close their connections in much less time, or do not hear it any more.
const LINGER: Duration = Duration::from_secs(1);

/// A server on an open database.
pub struct Server {
    config: Serve,
    store: Arc<dyn Store>,
    acquires: usize,
}

impl Server {
    /// Opens the database and brings its schema up to date.
    pub async fn open(common: &Common, config: Serve) -> anyhow::Result<Self> {
        failpoint::set_up();
        // Before the first measurement.
        metrics::recorder().context("the metrics cannot be recorded")?;
        let options = common.connect_options();
        let store = store::connect(&options).await.with_context(|| format!("database {}", common.database_url))?;
        info!(database = %common.database_url, driver = store.name(), "the database is open");
        let acquires = (options.max_connections / 2).max(1) as usize;
        Ok(Self { config, store: Arc::new(Measured::new(store)), acquires })
    }

    /// Serves until `shutdown` completes, then finishes what is under way, within the grace.
    pub async fn run(self, listeners: Listeners, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let Self { config, store, acquires } = self;
        // Nothing new is taken; the rest of the work ends.
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
        health.run_once(&*store, &queue.clock).await;
        // Before anybody can be told that its lease has run out.
        if let Err(error) = background::listen::run_once(&*store).await {
            warn!(%error, "it could not be noted that workers are heard again; it is tried again");
        }
        start_background(&config, &store, &queue, &health, &tracker, [&draining, &closing])?;

        let grpc = grpc::routes::routes(&queue, health.reporter(), &draining)?;
        let scrape = Arc::new(metrics::Scrape::new(metrics::recorder()?, Arc::clone(&queue)));
        let http = router::Http { scrape, readiness: health.readiness() };
        let calls = TaskTracker::new();
        let router = router::router(grpc, http, &config, &calls)?;
        let (grpc_addr, http_addr) = (listen::local_addr(&listeners.grpc)?, listen::local_addr(&listeners.http)?);
        let places = Arc::new(Semaphore::new(config.max_connections as usize));
        let serving = TaskTracker::new();
        for listener in [listeners.grpc, listeners.http] {
            serving.spawn(serve(listener, Arc::clone(&places), router.clone(), draining.clone()));
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

/// Until no call has been under way for [`LINGER`].
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

/// One line on stdout for whoever started this program, where logs are for people.
fn announce(grpc_addr: std::net::SocketAddr, http_addr: std::net::SocketAddr) {
    let line = serde_json::json!({
        "listening": { "grpc_addr": grpc_addr.to_string(), "http_addr": http_addr.to_string() }
    });
    let mut stdout = std::io::stdout().lock();
    // Nobody needs to read it.
    let _ = std::io::Write::write_all(&mut stdout, format!("{line}\n").as_bytes());
    let _ = std::io::Write::flush(&mut stdout);
}

fn start_background(
    config: &Serve,
    store: &Arc<dyn Store>,
    queue: &Arc<Queue>,
    health: &Arc<Health>,
    tracker: &TaskTracker,
    [draining, closing]: [&CancellationToken; 2],
) -> anyhow::Result<()> {
    let recorder = metrics::recorder()?;
    let (interval, retention) = (config.rescue_interval, config.retention());
    let every = |name, interval| (name, interval, closing.clone());
    let told = Arc::clone(health);
    let spawn = move |(name, interval, stop), work: Work| {
        let health = Arc::clone(&told);
        tracker.spawn(async move { background::every(name, interval, stop, &health, work).await });
    };
    let (it, wakes) = (Arc::clone(store), Arc::clone(&queue.wakes));
    spawn(
        // Workers cannot reach a server that stops, so it must not judge who is lost.
        ("rescue", interval, draining.clone()),
        Box::new(move || {
            let (store, wakes) = (Arc::clone(&it), Arc::clone(&wakes));
            Box::pin(async move { rescue::run_once(&*store, &wakes).await })
        }),
    );
    let it = Arc::clone(store);
    spawn(
        // A server that stops hears nobody.
        ("listen", store::listening::LISTEN_EVERY, draining.clone()),
        Box::new(move || {
            let store = Arc::clone(&it);
            Box::pin(async move { background::listen::run_once(&*store).await })
        }),
    );
    let it = Arc::clone(queue);
    spawn(
        every("poll", POLL_EVERY),
        Box::new(move || {
            let queue = Arc::clone(&it);
            Box::pin(async move { poll::run_once(&queue).await })
        }),
    );
    let (it, pruner) = (Arc::clone(store), Arc::new(Pruner::new(prune::HOLD)));
    spawn(
        every("prune", PRUNE_EVERY),
        Box::new(move || {
            let (store, pruner) = (Arc::clone(&it), Arc::clone(&pruner));
            Box::pin(async move { pruner.run_once(&*store, &retention).await })
        }),
    );
    let it = Arc::clone(store);
    spawn(
        every("upkeep", UPKEEP_EVERY),
        Box::new(move || {
            let store = Arc::clone(&it);
            Box::pin(async move { upkeep::run_once(&*store).await })
        }),
    );
    let it = Arc::clone(store);
    spawn(
        every("fold", FOLD_EVERY),
        Box::new(move || {
            let store = Arc::clone(&it);
            Box::pin(async move { fold::run_once(&*store).await })
        }),
    );
    let (it, queue, health) = (Arc::clone(store), Arc::clone(queue), Arc::clone(health));
    spawn(
        every("health", HEALTH_EVERY),
        Box::new(move || {
            let (store, queue, health) = (Arc::clone(&it), Arc::clone(&queue), Arc::clone(&health));
            Box::pin(async move {
                health.run_once(&*store, &queue.clock).await;
                Ok(())
            })
        }),
    );
    spawn(
        every("metrics", METRICS_EVERY),
        Box::new(move || {
            recorder.run_upkeep();
            Box::pin(std::future::ready(Ok(())))
        }),
    );
    Ok(())
}

type Work = Box<dyn Fn() -> futures::future::BoxFuture<'static, store::StoreResult<()>> + Send + Sync>;

/// tonic's own server: `axum::serve` would drop timeouts, keepalive and the limits below.
async fn serve(listener: TcpListener, places: Arc<Semaphore>, router: axum::Router, draining: CancellationToken) {
    let served = transport::Server::builder()
        .accept_http1(true)
        .timeout(CALL)
        .max_concurrent_streams(STREAMS)
        .http2_max_local_error_reset_streams(Some(RESETS))
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_PATIENCE))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .trace_fn(|request| debug_span!("request", method = %request.method(), path = request.uri().path()))
        .add_routes(Routes::from(router))
        .serve_with_incoming_shutdown(listen::incoming(listener, places), draining.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "a listener failed");
    }
}
