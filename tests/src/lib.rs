//! The harness of the tests that need real parts.
//!
//! Read in this order: [`poll`] waits for what must become true; [`database`] makes an empty database that is gone
//! afterwards; [`binaries`] finds the real programs, [`process`] runs one, [`server`] and [`worker`] say
//! how; [`api`] calls a server by gRPC, [`web`] by bytes on a socket. What goes wrong is real, too: [`disk`] is one that
//! fills up, [`strace`] lets its syncs fail, [`proxy`] is a bad network.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a harness that cannot do its part fails the test on the spot"
)]

pub mod api;
pub mod binaries;
pub mod database;
pub mod disk;
pub mod poll;
pub mod process;
pub mod proxy;
pub mod server;
pub mod strace;
pub mod web;
pub mod worker;
