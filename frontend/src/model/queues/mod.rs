//! Queues: what is wrong with them, their addresses and rows, and their sparklines.

pub mod attention;
pub mod queue;
pub mod spark;
