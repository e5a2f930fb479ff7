//! The jobqueue server.
//!
//! Modules in reading order: [`config`] parses settings; [`transport`] accepts connections and limits what they hold;
//! [`router`] sends a request to the services of [`grpc`], to the [`dashboard`] or to [`metrics`], past the [`guard`];
//! [`queue`] holds the rules; [`database`] opens the [store](jobqueue_store), which keeps the jobs, with one of two
//! drivers; [`background`] runs rescue, pruning and health checks. [`Server`] starts all of these, and stops them in
//! order.

pub mod background;
pub mod clock;
pub mod config;
pub mod dashboard;
pub mod database;
pub mod grpc;
pub mod guard;
pub mod log;
pub mod metrics;
pub mod queue;
pub mod router;
mod server;
pub mod shutdown;
pub mod transport;

pub use self::server::Server;
