//! Operator actions and pruning.

mod operations;
mod operator_actions;
mod partitions;
mod prune;
