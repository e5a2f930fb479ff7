//! Running of jobs within a session: acquiring them, giving them slots, running their handlers, and the orderly end.

mod acquire;
pub(crate) mod execute;
mod outcome;
mod pace;
mod permits;
pub(crate) mod serve;
pub(crate) mod slots;
mod supervise;
