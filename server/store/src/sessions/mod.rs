//! Sessions: what both drivers decide when sessions end, and outages in which no session could be heard.

pub mod outage;
pub mod rescue;
pub mod session_end;
