//! Handlers of jobs: the trait, the context that a handler receives, and the output or error that it returns.

pub(crate) mod by_task;
pub(crate) mod context;
pub(crate) mod handler;
pub(crate) mod handler_error;
pub(crate) mod output;
pub(crate) mod progress;
pub(crate) mod stop;
