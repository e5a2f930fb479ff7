//! Starts all background work of a server.

use std::{sync::Arc, time::Duration};

use jobqueue_store::{Store, StoreResult, sessions::outage::NOTE_EVERY};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    compact_counters, find_runnable, fold_errors,
    health::Health,
    housekeeping, note_heard,
    prune::{self, Pruner},
    repeat::every,
    rescue, run_operations,
};
use crate::{config::Serve, log, metrics, queue::Queue};

const HEALTH_EVERY: Duration = Duration::from_secs(1);
const FIND_RUNNABLE_EVERY: Duration = Duration::from_secs(1);
const RUN_OPERATIONS_EVERY: Duration = Duration::from_secs(1);
const COMPACT_EVERY: Duration = Duration::from_secs(1);
const FOLD_ERRORS_EVERY: Duration = Duration::from_secs(1);
/// Interval at which dropped and suppressed log lines are reported.
const LOG_EVERY: Duration = Duration::from_secs(1);
const PRUNE_EVERY: Duration = Duration::from_mins(1);
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(1);
const METRICS_EVERY: Duration = Duration::from_secs(5);

pub(crate) fn start(
    config: &Serve,
    store: &Arc<dyn Store>,
    queue: &Arc<Queue>,
    health: &Arc<Health>,
    tracker: &TaskTracker,
    [draining, closing]: [&CancellationToken; 2],
) -> anyhow::Result<()> {
    let recorder = metrics::recorder()?;
    let (interval, retention) = (config.rescue_interval, config.retention());
    let until_closing = |name, interval| (name, interval, closing.clone());
    let told = Arc::clone(health);
    let spawn = move |(name, interval, stop), work: Work| {
        let health = Arc::clone(&told);
        tracker.spawn(async move { every(name, interval, stop, &health, work).await });
    };
    let (it, notifier) = (Arc::clone(store), Arc::clone(&queue.context.notifier));
    spawn(
        // Workers cannot reach a server that stops, so it must not decide which of them are lost.
        ("rescue", interval, draining.clone()),
        Box::new(move || {
            let (store, notifier) = (Arc::clone(&it), Arc::clone(&notifier));
            Box::pin(async move { rescue::run_once(&*store, &notifier).await })
        }),
    );
    let it = Arc::clone(store);
    spawn(
        // A server that stops receives no heartbeats.
        ("note_heard", NOTE_EVERY, draining.clone()),
        Box::new(move || {
            let store = Arc::clone(&it);
            Box::pin(async move { note_heard::run_once(&*store).await })
        }),
    );
    let it = Arc::clone(queue);
    spawn(
        until_closing("find_runnable", FIND_RUNNABLE_EVERY),
        Box::new(move || {
            let queue = Arc::clone(&it);
            Box::pin(async move { find_runnable::run_once(&queue).await })
        }),
    );
    let it = Arc::clone(queue);
    spawn(
        // A server that stops gives its operations back.
        ("run_operations", RUN_OPERATIONS_EVERY, draining.clone()),
        Box::new(move || {
            let queue = Arc::clone(&it);
            Box::pin(async move { run_operations::run_once(&queue).await })
        }),
    );
    let (it, pruner) = (Arc::clone(store), Arc::new(Pruner::new(prune::HOLD)));
    spawn(
        until_closing("prune", PRUNE_EVERY),
        Box::new(move || {
            let (store, pruner) = (Arc::clone(&it), Arc::clone(&pruner));
            Box::pin(async move { pruner.run_once(&*store, &retention).await })
        }),
    );
    let it = Arc::clone(store);
    spawn(
        until_closing("housekeeping", HOUSEKEEPING_EVERY),
        Box::new(move || {
            let store = Arc::clone(&it);
            Box::pin(async move { housekeeping::run_once(&*store).await })
        }),
    );
    let it = Arc::clone(store);
    spawn(
        until_closing("compact_counters", COMPACT_EVERY),
        Box::new(move || {
            let store = Arc::clone(&it);
            Box::pin(async move { compact_counters::run_once(&*store).await })
        }),
    );
    let it = Arc::clone(store);
    spawn(
        until_closing("fold_errors", FOLD_ERRORS_EVERY),
        Box::new(move || {
            let store = Arc::clone(&it);
            Box::pin(async move { fold_errors::run_once(&*store).await })
        }),
    );
    let (it, queue, health) = (Arc::clone(store), Arc::clone(queue), Arc::clone(health));
    spawn(
        until_closing("health", HEALTH_EVERY),
        Box::new(move || {
            let (store, queue, health) = (Arc::clone(&it), Arc::clone(&queue), Arc::clone(&health));
            Box::pin(async move {
                health.run_once(&*store, &queue.context.clock).await;
                Ok(())
            })
        }),
    );
    spawn(
        until_closing("log", LOG_EVERY),
        Box::new(|| {
            log::report();
            Box::pin(std::future::ready(Ok(())))
        }),
    );
    spawn(
        until_closing("metrics", METRICS_EVERY),
        Box::new(move || {
            recorder.run_upkeep();
            Box::pin(std::future::ready(Ok(())))
        }),
    );
    Ok(())
}

type Work = Box<dyn Fn() -> futures::future::BoxFuture<'static, StoreResult<()>> + Send + Sync>;
