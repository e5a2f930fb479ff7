//! The browser's own features: its API, its history, its theme.

pub mod dom;
pub mod history;
pub mod theme;
pub mod trail;
pub mod views;
pub mod zone;
