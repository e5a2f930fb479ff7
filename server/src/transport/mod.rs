//! Connections, and limits on what they hold.
//!
//! [`bind`] binds the addresses; [`listen`] accepts connections; [`tls`] makes them secure; [`serve`] drives each until it is idle or old or its
//! peer does not read; [`budget`] limits the bytes of requests that are being read and of answers that are being sent
//! over all connections: the bodies in [`grpc`](crate::grpc) take them from it.

pub(crate) mod activity;
pub mod bind;
pub mod budget;
pub mod listen;
pub mod serve;
pub mod tls;
