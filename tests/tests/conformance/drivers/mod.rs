//! Behaviour of one database only.

mod connections;
mod pooler;
pub(crate) mod postgres;
pub(crate) mod schemas;
mod sqlite;
mod tls;
