//! Random operations against a model.

mod model;
pub(crate) mod operations;
