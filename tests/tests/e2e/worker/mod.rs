//! Workers and their handlers.

mod commands;
mod handler_kinds;
mod handlers;
mod stop;
mod takeover;
mod worker_api;
mod worker_ids;
mod worker_process;
