//! What every store must do, written once and run on both drivers, and on PostgreSQL behind a pooler.
//!
//! [`bed`] gives each scenario an empty database and looks at it again when the scenario is over: nothing that is
//! stored may contradict anything else. A scenario is named by what must hold.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod bed;
mod schemas;
mod session;

mod acquire;
mod broken;
mod circumstances;
mod connections;
mod counts;
mod facts;
mod handlers;
mod idempotency;
mod lease;
mod lists;
mod lost;
mod model;
mod moves;
mod offers;
mod operations;
mod partitions;
mod pause;
mod pooler;
mod postgres;
mod prune;
mod reads;
mod sessions;
mod settle;
mod sqlite;
mod submit;
mod takeover;
mod texts;
mod timeouts;
mod tls;
mod together;

/// Makes a test for each driver, and one behind a pooler, from every scenario that is named.
macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                $crate::bed::run(jobqueue_tests::database::Driver::Sqlite, |bed| Box::pin(super::$name(bed))).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                $crate::bed::run(jobqueue_tests::database::Driver::Postgres, |bed| Box::pin(super::$name(bed))).await;
            })+
        }
        mod pooled {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                $crate::bed::run(jobqueue_tests::database::Driver::Pooled, |bed| Box::pin(super::$name(bed))).await;
            })+
        }
    };
}
pub(crate) use scenarios;
