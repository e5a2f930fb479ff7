//! Sizes of calls and groups, and their limits.

pub(crate) const MIB: usize = 1024 * 1024;

/// Size of a call or a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weight {
    /// Number of items (jobs, leases, sessions).
    pub count: usize,
    pub bytes: usize,
}

/// Limits of a group and of the calls that wait for one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimits {
    /// A group ends before the call that would exceed this; a single larger call is a group of its own.
    pub group: Weight,
    /// Calls and bytes that may wait, those of the group under way included.
    pub waiting: Weight,
    /// Number of waiting items from which on a second group is written beside the first, so that the server prepares
    /// one while the database commits the other. With fewer items one larger group is cheaper.
    pub second_group_from: usize,
}
