//! Faults of processes, networks and databases.

pub(crate) mod crashes;
mod failpoints;
mod half_open;
mod operations;
pub(crate) mod outage;
mod pooler;
mod postgres_faults;
mod sqlite_faults;
mod unheard;
