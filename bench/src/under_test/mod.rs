//! System under test: the server, its database, PostgreSQL, and the calls that the bench makes to it.

pub mod api;
pub mod database;
pub mod postgres;
pub mod server;
