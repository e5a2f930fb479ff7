//! Calls in flight that change something, each with keys that keep a second one from starting. They belong to the app
//! and not to the component that started them, which may be gone when the answer comes.

use std::{collections::BTreeSet, future::Future};

use leptos::{prelude::*, task::spawn_local};

/// Keys of the calls that are in flight.
#[derive(Clone, Copy)]
pub struct InFlight(RwSignal<BTreeSet<String>>);

/// Key of all calls about one job.
pub fn job_key(id: &str) -> String {
    format!("job {id}")
}

/// Key of all calls about one worker_id.
pub fn worker_id_key(worker_id: &str) -> String {
    format!("worker_id {worker_id}")
}

impl InFlight {
    pub fn provide() {
        provide_context(Self(RwSignal::new(BTreeSet::new())));
    }

    pub fn get() -> Self {
        expect_context()
    }

    /// Whether a call with this key is under way. Its button then says so, and ignores presses.
    pub fn busy(self, key: String) -> Memo<bool> {
        Memo::new(move |_| self.0.with(|under_way| under_way.contains(&key)))
    }

    pub fn is_under_way(self, key: &str) -> bool {
        self.0.with_untracked(|under_way| under_way.contains(key))
    }

    /// Runs `call`, unless a call with one of these keys is under way. `call` must not capture anything that belongs to
    /// a component.
    pub fn run(self, keys: Vec<String>, call: impl Future<Output = ()> + 'static) {
        if keys.iter().any(|key| self.is_under_way(key)) {
            return;
        }
        self.0.update(|under_way| under_way.extend(keys.iter().cloned()));
        spawn_local(async move {
            call.await;
            self.0.update(|under_way| under_way.retain(|key| !keys.contains(key)));
        });
    }
}
