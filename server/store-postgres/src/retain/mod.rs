//! Retain: what is kept how long, and how the rest goes.

pub(crate) mod counter_compaction;
pub(crate) mod low_watermark;
pub(crate) mod partition_calendar;
pub(crate) mod partitions;
pub(crate) mod prune;
