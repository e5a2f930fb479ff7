//! Asks the storage every second whether it answers; health and readiness say what it said.

use std::time::Duration;

use tokio::{sync::watch, time::timeout};
use tonic_health::server::HealthReporter;
use tracing::{error, info};

use crate::{
    grpc::health::set,
    queue::Clock,
    store::{Store, StoreError},
};

/// An answer later than this is none.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    StorageAway,
    Draining,
}

/// What the checks found last, for /readyz and for gRPC health.
pub struct Health {
    reporter: HealthReporter,
    readiness: watch::Sender<Readiness>,
}

impl Health {
    /// Ready: the storage has just been opened.
    pub async fn new() -> Self {
        let health = Self { reporter: HealthReporter::new(), readiness: watch::Sender::new(Readiness::Ready) };
        set(&health.reporter, true).await;
        health
    }

    pub fn reporter(&self) -> HealthReporter {
        self.reporter.clone()
    }

    pub fn readiness(&self) -> watch::Receiver<Readiness> {
        self.readiness.subscribe()
    }

    /// For good: no check changes it back.
    pub async fn drain(&self) {
        self.readiness.send_replace(Readiness::Draining);
        set(&self.reporter, false).await;
    }

    pub async fn run_once(&self, store: &dyn Store, clock: &Clock) {
        let answer = timeout(PATIENCE, store.now_ms())
            .await
            .unwrap_or_else(|_| Err(StoreError::Unavailable(format!("no answer within {PATIENCE:?}"))));
        let found = match &answer {
            Ok(now_ms) => {
                clock.set(*now_ms);
                Readiness::Ready
            }
            Err(_) => Readiness::StorageAway,
        };
        let changed = self.readiness.send_if_modified(|it| {
            let changed = *it != found && *it != Readiness::Draining;
            if changed {
                *it = found;
            }
            changed
        });
        if changed {
            match answer {
                Ok(_) => info!("the storage is back"),
                Err(error) => error!(%error, "the storage is unavailable"),
            }
            set(&self.reporter, found == Readiness::Ready).await;
            // Draining may have begun while the lines above waited.
            if *self.readiness.borrow() == Readiness::Draining {
                set(&self.reporter, false).await;
            }
        }
    }
}
