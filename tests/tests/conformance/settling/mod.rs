//! Settling attempts.

mod lease;
mod settle;
mod timeouts;
