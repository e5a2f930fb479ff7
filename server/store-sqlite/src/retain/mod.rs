//! Retain: what is kept how long, and how the rest goes.

pub(crate) mod prune;
