//! Rows that both databases read and write, and the encoding of their columns.

pub mod counts;
pub mod inline_job;
pub mod job;
pub mod packed_claim;
pub mod session;
pub mod write;
