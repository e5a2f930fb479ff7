//! Harness of the tests that use real servers, workers and databases.
//!
//! Read in this order: [`poll`] waits for conditions; [`database`] makes an empty database and removes it afterwards;
//! [`binaries`] finds the real programs, [`process`] runs one, [`server`] and [`worker`] give it its arguments; [`api`]
//! calls a server by gRPC, [`web`] by bytes on a socket. Faults are real, too: [`disk`] is a disk that can be filled,
//! [`strace`] makes syncs fail, [`proxy`] is a bad network.

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
