//! Error groups: failed attempts of one task whose errors have the same normalised text.
//!
//! [`title`] finds the lines of an error that name its kind and blanks what varies in them; the fingerprint is the hash
//! of the task and that text. A transaction collects [`changes`]; [`fold`] sums them up into the rows of groups. The
//! drivers read rows, from which [`list`] makes pages and [`details`] the groups themselves. [`state`] decides what a
//! person's decision about a group still means.

pub mod changes;
pub mod details;
pub mod fold;
pub mod list;
mod normalise;
pub mod state;
pub mod title;
