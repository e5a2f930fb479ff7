//! Health: checks every second that the storage answers, and collects which background work fails, for /readyz and gRPC
//! health.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use jobqueue_store::{Store, StoreError};
use metrics::gauge;
use parking_lot::Mutex;
use tokio::{sync::watch, time::timeout};
use tonic_health::server::HealthReporter;
use tracing::{error, info, warn};

use crate::{clock::DisplayClock, grpc::health_service::set};

/// Difference in milliseconds between the database's and this machine's clock from which on a warning is logged.
const SKEW_MS: i64 = 60_000;
/// Time after which a missing answer of the storage counts as a failure.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    StorageAway,
    /// The named background work has failed for a while, although the storage answers.
    WorkFails(&'static str),
    Draining,
}

/// Findings that decide readiness.
#[derive(Debug, Default)]
struct Findings {
    storage_away: bool,
    /// Names of background work that fails.
    failing: BTreeSet<&'static str>,
}

impl Findings {
    fn readiness(&self) -> Readiness {
        match self.failing.first() {
            _ if self.storage_away => Readiness::StorageAway,
            Some(work) => Readiness::WorkFails(work),
            None => Readiness::Ready,
        }
    }
}

/// Result of the last checks, for /readyz and gRPC health.
pub struct Health {
    reporter: HealthReporter,
    readiness: watch::Sender<Readiness>,
    findings: Mutex<Findings>,
    /// Whether the last log line about the clocks said that they differ.
    skewed: AtomicBool,
}

impl Health {
    /// Starts as ready, because the storage has just been opened.
    pub async fn new() -> Self {
        let health = Self {
            reporter: HealthReporter::new(),
            readiness: watch::Sender::new(Readiness::Ready),
            findings: Mutex::default(),
            skewed: AtomicBool::new(false),
        };
        set(&health.reporter, true).await;
        health
    }

    pub fn reporter(&self) -> HealthReporter {
        self.reporter.clone()
    }

    pub fn readiness(&self) -> watch::Receiver<Readiness> {
        self.readiness.subscribe()
    }

    /// Makes the server not ready for good: no later check changes it.
    pub async fn drain(&self) {
        self.readiness.send_replace(Readiness::Draining);
        set(&self.reporter, false).await;
    }

    pub async fn run_once(&self, store: &dyn Store, clock: &DisplayClock) {
        let answer = timeout(PATIENCE, store.now_ms())
            .await
            .unwrap_or_else(|_| Err(StoreError::Unavailable(format!("no answer within {PATIENCE:?}"))));
        if let Ok(now_ms) = &answer {
            self.tell_skew(clock.set(*now_ms));
        }
        let away = answer.is_err();
        if self.find(|findings| findings.storage_away = away).await {
            match answer {
                Ok(_) => info!("the storage is back"),
                Err(error) => error!(%error, "the storage is unavailable"),
            }
        }
    }

    /// Records the clock skew, and logs once that the clocks differ and once that they agree again.
    fn tell_skew(&self, ahead_ms: i64) {
        gauge!("jobqueue_clock_skew_seconds").set(ahead_ms as f64 / 1_000.0);
        let skewed = ahead_ms.abs() >= SKEW_MS;
        if skewed == self.skewed.swap(skewed, Ordering::Relaxed) {
            return;
        }
        if skewed {
            warn!(
                seconds = ahead_ms / 1_000,
                "the database's time and this machine's clock differ by this much: jobs that are to run at a given time \
                 run too early (or, where it is negative, too late). README.md says under \"Clocks\" what to do"
            );
        } else {
            info!("the database's time and this machine's clock agree again");
        }
    }

    /// Records that background work has failed for a while.
    pub async fn fails(&self, work: &'static str) {
        if self
            .find(|findings| {
                let _ = findings.failing.insert(work);
            })
            .await
        {
            error!(work, "not ready: background work goes on failing");
        }
    }

    /// Records that background work succeeded again.
    pub async fn works(&self, work: &'static str) {
        self.find(|findings| {
            let _ = findings.failing.remove(work);
        })
        .await;
    }

    /// Records a finding, and returns whether it changed readiness.
    async fn find(&self, note: impl FnOnce(&mut Findings)) -> bool {
        let found = {
            let mut findings = self.findings.lock();
            note(&mut findings);
            findings.readiness()
        };
        let changed = self.readiness.send_if_modified(|it| {
            let changed = *it != found && *it != Readiness::Draining;
            if changed {
                *it = found;
            }
            changed
        });
        if changed {
            set(&self.reporter, found == Readiness::Ready).await;
            // Draining may have begun while the line above was waiting.
            if *self.readiness.borrow() == Readiness::Draining {
                set(&self.reporter, false).await;
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_fails_is_named_until_it_succeeds_and_the_storage_comes_first() {
        let health = Health::new().await;
        let readiness = health.readiness();
        health.fails("rescue").await;
        assert_eq!(*readiness.borrow(), Readiness::WorkFails("rescue"));
        health.find(|findings| findings.storage_away = true).await;
        assert_eq!(*readiness.borrow(), Readiness::StorageAway);
        health.find(|findings| findings.storage_away = false).await;
        assert_eq!(*readiness.borrow(), Readiness::WorkFails("rescue"));
        health.works("rescue").await;
        assert_eq!(*readiness.borrow(), Readiness::Ready);
        health.drain().await;
        health.fails("rescue").await;
        assert_eq!(*readiness.borrow(), Readiness::Draining);
    }
}
