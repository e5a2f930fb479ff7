//! Operator actions and pruning.

mod operator_actions;
mod partitions;
mod prune;
