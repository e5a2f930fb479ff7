//! Computations of the pages: pure, without a browser, tested natively.

pub mod chart;
pub mod clock;
pub mod draft;
pub mod explain;
pub mod filter;
pub mod grpcurl;
pub mod id;
pub mod json;
pub mod number;
pub mod session;
pub mod shell_quote;
pub mod span;
pub mod status;
pub mod time;
pub mod timeline;
