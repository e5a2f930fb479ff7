//! Reading lists, counts and history.

mod counts;
mod explain_inputs;
mod lists;
mod reads;
