//! The real programs over real sockets.
//!
//! [`world`] is a server on a database of its own; when a scenario is over, the server is stopped in order and looks
//! through everything that it stored. Scenarios are named by what must hold; most run on both databases.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod world;

mod clocks;
mod command_line;
mod commands;
mod contract;
mod crashes;
mod errors;
mod explain;
mod failpoints;
mod gzip;
mod half_open;
mod handlers;
mod idempotency;
mod kinds;
mod large_answers;
mod lifecycle;
mod logging;
mod malformed;
mod outage;
mod overload;
mod pages;
mod pooler;
mod postgres_trouble;
mod pressure;
mod protocol;
mod rolling;
mod servers;
mod shutdown;
mod sqlite_trouble;
mod stop;
mod takeover;
mod timeline;
mod unheard;
mod worker_api;
mod worker_process;

/// Makes a test for each database from every scenario that is named.
macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let mut world = $crate::world::World::new(jobqueue_tests::database::Driver::Sqlite).await;
                super::$name(&mut world).await;
                world.over().await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let mut world = $crate::world::World::new(jobqueue_tests::database::Driver::Postgres).await;
                super::$name(&mut world).await;
                world.over().await;
            })+
        }
    };
}
pub(crate) use scenarios;
