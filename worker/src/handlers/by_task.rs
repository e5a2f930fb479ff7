//! Handlers of a worker by the task whose jobs they run.

use std::{collections::BTreeMap, sync::Arc};

use crate::handlers::handler::Handler;

/// Handler of each task, and the fallback for all other tasks.
#[derive(Default)]
pub(crate) struct Handlers {
    by_task: BTreeMap<String, Arc<dyn Handler>>,
    fallback: Option<Arc<dyn Handler>>,
}

impl Handlers {
    /// Adds the handler of a task; true when it replaces another one.
    pub(crate) fn add(&mut self, task: String, handler: impl Handler) -> bool {
        self.by_task.insert(task, Arc::new(handler)).is_some()
    }

    pub(crate) fn set_fallback(&mut self, handler: impl Handler) {
        self.fallback = Some(Arc::new(handler));
    }

    /// Handler of a job with this task.
    pub(crate) fn find(&self, task: &str) -> Option<Arc<dyn Handler>> {
        self.by_task.get(task).or(self.fallback.as_ref()).cloned()
    }

    /// Tasks that have a handler of their own, in alphabetical order.
    pub(crate) fn named_tasks(&self) -> impl ExactSizeIterator<Item = &str> {
        self.by_task.keys().map(String::as_str)
    }

    /// Tasks that a session registers; `*` stands for the fallback.
    pub(crate) fn tasks(&self) -> Vec<String> {
        let any = self.fallback.iter().map(|_| "*".to_owned());
        self.by_task.keys().cloned().chain(any).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_task.is_empty() && self.fallback.is_none()
    }
}
