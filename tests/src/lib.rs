//! The harness of the tests that need real parts.
//!
//! Read in this order: [`poll`] waits for what must become true; [`database`] makes an empty database that is gone
//! afterwards.

#![expect(clippy::unwrap_used, reason = "a harness that cannot do its part fails the test on the spot")]

pub mod database;
pub mod poll;
