//! View model: turns the API's messages into the texts, times, links and actions that components show. Pure, without a
//! browser, tested natively.

pub mod chart;
pub mod clock;
pub mod copy;
pub mod counts;
pub mod draft;
pub mod error_group;
pub mod explain;
pub mod filter;
pub mod grpcurl;
pub mod id;
pub mod id_query;
pub mod job;
pub mod json;
pub mod life;
pub mod lineage;
pub mod many;
pub mod number;
pub mod operation;
pub mod operation_draft;
pub mod property;
pub mod recent;
pub mod recent_jobs;
pub mod search;
pub mod session;
pub mod shell_quote;
pub mod span;
pub mod status;
pub mod tally;
pub mod text;
pub mod throughput;
pub mod time;
pub mod timeline;
pub mod timeline_fold;
pub mod trail;
pub mod visible;
