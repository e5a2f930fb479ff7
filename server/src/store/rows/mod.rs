//! Rows that both databases read and write.

pub(super) mod job;
pub(super) mod session;
pub(super) mod write;
