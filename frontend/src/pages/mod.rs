//! One file for each page; they arrange components and hold no looks of their own.

pub mod dead_letters;
pub mod filters;
pub mod job;
pub mod jobs;
pub mod not_found;
pub mod overview;
pub mod submit;
pub mod worker;
pub mod workers;
