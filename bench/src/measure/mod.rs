//! Figures: what they are computed from, the machine that they belong to, and how they are printed and stored.

pub mod machine;
pub mod report;
pub mod resources;
pub mod stats;
pub mod table;
