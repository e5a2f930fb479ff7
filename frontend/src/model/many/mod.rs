//! Many jobs at once: the lines that a person gives, the calls that submit them, and what became of each.

pub mod lines;
pub mod report;
pub mod run;
