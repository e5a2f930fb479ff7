//! Connections, and limits on what they hold.
//!
//! [`bind`] binds the addresses; [`listen`] accepts connections; [`serve`] drives each until it is idle or old or its peer does not read; [`budget`]
//! limits the bytes of requests that are being read (`request_body`) and answers that are being sent (`response_body`)
//! over all connections.

pub(crate) mod activity;
pub mod bind;
pub mod budget;
pub mod listen;
pub mod request_body;
pub(crate) mod response_body;
pub mod serve;
