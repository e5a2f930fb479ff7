//! Conformance suite: the behaviour of every store, written once and run on both drivers, and on PostgreSQL behind a
//! pooler.
//!
//! [`store_fixture`] gives each scenario an empty database and audits it when the scenario is over: the stored data must be
//! consistent. A scenario's name is the statement that must hold.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod session_client;
mod store_fixture;

mod acquiring;
mod drivers;
mod model_test;
mod observe;
mod operate;
mod settling;
mod submitting;
mod worker_sessions;

/// Defines a test for each driver, and one behind a pooler, from every scenario that is named.
macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                $crate::store_fixture::run(jobqueue_tests::database::Driver::Sqlite, |fixture| Box::pin(super::$name(fixture))).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                $crate::store_fixture::run(jobqueue_tests::database::Driver::Postgres, |fixture| Box::pin(super::$name(fixture))).await;
            })+
        }
        mod pooled {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                $crate::store_fixture::run(jobqueue_tests::database::Driver::Pooled, |fixture| Box::pin(super::$name(fixture))).await;
            })+
        }
    };
}
pub(crate) use scenarios;
