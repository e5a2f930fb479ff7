//! Error groups, whose rows are updated in place: with one writer, no settle waits for another's group.

pub(crate) mod details;
pub(crate) mod fold;
pub(crate) mod list;
pub(crate) mod prune;
pub(crate) mod update;
