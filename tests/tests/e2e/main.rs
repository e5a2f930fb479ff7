//! End-to-end tests: the real programs over real sockets.
//!
//! [`deployment`] is a server on a database of its own; when a scenario is over, the server is stopped in order and its
//! stored data are checked. A scenario's name is the statement that must hold; most run on both databases.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod deployment;

mod api;
mod faults;
mod server;
mod worker;

/// Defines a test for each database from every scenario that is named.
macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let mut deployment = $crate::deployment::Deployment::new(jobqueue_tests::database::Driver::Sqlite).await;
                super::$name(&mut deployment).await;
                deployment.stop_and_check().await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let mut deployment = $crate::deployment::Deployment::new(jobqueue_tests::database::Driver::Postgres).await;
                super::$name(&mut deployment).await;
                deployment.stop_and_check().await;
            })+
        }
    };
}
pub(crate) use scenarios;
