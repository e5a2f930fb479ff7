//! Settle: what both drivers decide when attempts end.

pub mod claim;
pub mod decision;
pub mod group;
