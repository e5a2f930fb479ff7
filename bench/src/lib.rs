//! Measures jobqueue on this machine, beside its limits and its peers: `cargo xtask bench`.
//!
//! Reading order: [`mod@bench`] is a run and what every scenario does again and again; [`scenarios`] has a file for each;
//! [`beside`] measures two queues in turns; [`report`] prints what they found and [`stats`] adds it up. Load comes from
//! processes of their own: [`child`] starts them, [`submit`], [`work`], [`paced`] and [`echo`] are what they do.
//! [`server`] starts the program under test, [`postgres`] its database, [`api`] asks it; [`procs`] and [`machine`] read
//! what it costs and on what, [`profile`] where the time goes. [`pure`] is the code that is measured without any of
//! that, one function at a time.

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
pub mod report;
pub mod run;
pub mod scenarios;
pub mod server;
pub mod stats;
pub mod submit;
pub mod work;
