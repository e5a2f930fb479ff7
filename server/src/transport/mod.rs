//! Connections, and what they may hold.
//!
//! [`listen`] accepts them, [`serve`] drives each until it is idle or old or its peer does not read; [`budget`]
//! bounds the bytes of requests that are read (`request_body`) and answers that are sent (`response_body`) over all
//! of them.

mod activity;
pub mod budget;
pub mod listen;
pub mod request_body;
pub(crate) mod response_body;
pub mod serve;

pub(crate) use activity::Activity;
