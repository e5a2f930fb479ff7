//! State that calls and group commits share.

use std::sync::Arc;

use jobqueue_store::Store;

use super::{
    acquire::{notify::Notifier, parked_polls::ParkedPolls},
    meters::Meters,
    observe::finished::FinishedJobs,
};
use crate::clock::DisplayClock;

pub(crate) struct Context {
    pub store: Arc<dyn Store>,
    pub notifier: Arc<Notifier>,
    pub parked_polls: Arc<ParkedPolls>,
    pub finished: Arc<FinishedJobs>,
    pub clock: Arc<DisplayClock>,
    pub meters: Meters,
}

impl Context {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            notifier: Notifier::new(store.notifications().is_some()),
            parked_polls: Arc::default(),
            finished: Arc::default(),
            store,
            clock: Arc::default(),
            meters: Meters::new(),
        }
    }
}
