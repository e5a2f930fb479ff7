//! Calls of the server: the client, and what people begin by a press, which goes on whatever page they are on.

pub mod bulk_retry;
pub mod client;
pub mod id_search;
pub mod in_flight;
pub mod many_submit;
pub mod operator_actions;
