//! Acquiring jobs.

mod acquire;
mod batched_acquires;
mod direct_hand_off;
mod handlers;
mod pause;
