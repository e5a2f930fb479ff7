//! Benchmark of jobqueue on this machine, beside its limits and its peers: `cargo xtask bench`.
//!
//! Reading order: [`mod@bench`] is a run, with the steps that scenarios share; [`scenarios`] has a file for each;
//! [`beside`] measures two queues in turns; [`report`] prints results and [`stats`] computes them. Load comes from
//! child processes: [`child`] starts them; [`submit`], [`work`], [`paced`] and [`echo`] are their roles. [`server`]
//! starts the program under test, [`postgres`] its database, and [`api`] calls it; [`procs`] reads what it costs,
//! [`machine`] describes what it runs on, and [`profile`] records where the time goes. [`pure`] holds functions that
//! are measured without any of that, one at a time.

pub mod api;
pub mod bench;
pub mod beside;
pub mod child;
pub mod echo;
pub mod machine;
pub mod paced;
pub mod postgres;
pub mod procs;
pub mod profile;
pub mod pure;
mod pure_store;
pub mod report;
pub mod run;
pub mod scenarios;
pub mod server;
pub mod stats;
pub mod submit;
pub mod work;
