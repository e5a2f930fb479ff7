//! Calls that change something, while they are under way. They belong to the app and not to the part of a page that
//! started them: that part may be gone when the answer comes.

use std::{collections::BTreeSet, future::Future};

use leptos::{prelude::*, task::spawn_local};

#[derive(Clone, Copy)]
pub struct Calls(RwSignal<BTreeSet<String>>);

/// The key of everything that is done to one job.
pub fn of_job(id: &str) -> String {
    format!("job {id}")
}

/// The key of everything that is done to one worker_id.
pub fn of_worker_id(worker_id: &str) -> String {
    format!("worker_id {worker_id}")
}

impl Calls {
    pub fn provide() {
        provide_context(Self(RwSignal::new(BTreeSet::new())));
    }

    pub fn get() -> Self {
        expect_context()
    }

    /// Whether a call of this key is under way: its button says so, and takes no second press.
    pub fn busy(self, key: String) -> Memo<bool> {
        Memo::new(move |_| self.0.with(|under_way| under_way.contains(&key)))
    }

    pub fn is_under_way(self, key: &str) -> bool {
        self.0.with_untracked(|under_way| under_way.contains(key))
    }

    /// Runs `call`, unless one of these keys is under way already. What it captures must not belong to a component.
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
