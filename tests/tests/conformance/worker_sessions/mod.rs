//! Sessions, and their loss.

mod lost;
mod quarantine;
mod sessions;
mod takeover;
