//! Benchmark of jobqueue on this machine, beside its limits and its peers: `cargo xtask bench`.
//!
//! Reading order: [`run`] runs the chosen [`scenarios`], a file each, with [`mod@bench`] as their context. [`load`] is
//! the load, produced by child processes, and the steps that scenarios share. [`under_test`] is the program under test
//! and its database. `limits` measures what no queue can exceed. [`measure`] computes, describes and prints results.
//! [`profile`] records where the time goes, and [`pure`] holds functions that are measured alone.
//!
//! Imports go one way: `run` → `scenarios` → `limits` → `bench`, `load` → `measure`, `under_test`. `profile` and
//! `pure` import `load`.

pub mod bench;
mod limits;
pub mod load;
pub mod measure;
pub mod profile;
pub mod pure;
pub mod run;
pub mod scenarios;
pub mod under_test;
