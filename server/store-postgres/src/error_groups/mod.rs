//! Error groups: transactions append their changes, a background task folds them into the groups' rows, and readers add
//! what is not folded.

pub(crate) mod details;
pub(crate) mod error_deltas;
pub(crate) mod fold;
pub(crate) mod list;
pub(crate) mod prune;
pub(crate) mod update;
