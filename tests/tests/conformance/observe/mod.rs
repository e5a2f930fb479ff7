//! Reading lists, counts and history.

mod counts;
mod error_groups;
mod explain_inputs;
mod filters;
mod lists;
mod reads;
