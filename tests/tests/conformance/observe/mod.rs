//! Reading lists, counts and history.

mod counts;
mod error_groups;
mod explain_inputs;
mod lists;
mod reads;
