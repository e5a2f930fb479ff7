//! Components that the pages share.

pub mod action;
pub mod alike;
pub mod atoms;
pub mod bulk_panel;
pub mod chart;
pub mod confirm;
pub mod detail;
pub mod error_chart;
pub mod field;
pub mod heading;
pub mod icon;
pub mod job_text;
pub mod json_panel;
pub mod life_bar;
pub mod listing;
pub mod notice;
pub mod pager;
pub mod pause;
pub mod property_list;
pub mod search_line;
pub mod shell;
pub mod spark;
pub mod table;
pub mod timeline;
