//! Jobs as shell commands (`--exec`), each under a guardian process that ends everything the command has started.

mod exit_status;
mod guarded_command;
pub(crate) mod guardian;
mod guardian_protocol;
pub(crate) mod handler;
pub(crate) mod orphans;
mod processes;
