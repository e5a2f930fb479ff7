//! What pages are made of, each once.

pub mod action;
pub mod chart;
pub mod confirm;
pub mod facts;
pub mod field;
pub mod frame;
pub mod heading;
pub mod icon;
pub mod json_panel;
pub mod notice;
pub mod pager;
pub mod pause;
pub mod small;
pub mod table;
pub mod timeline;
