//! Feeds, which keep what a page shows fresh.

pub mod counts_feed;
pub mod live;
pub mod rows;
pub mod search;
