//! Ways to pages and actions without the pointer: keys, the palette, and saved views.

pub mod keys;
pub mod palette;
pub mod saved_views;
