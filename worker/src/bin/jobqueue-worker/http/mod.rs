//! Jobs as HTTP requests (`--http`): each is posted to a URL.

mod answer;
mod connect;
pub(crate) mod handler;
