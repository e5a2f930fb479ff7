//! Ways to pages and actions without the pointer: keys, entries of the palette, pages, and saved views.

pub mod keys;
pub mod palette;
pub mod places;
pub mod views;
