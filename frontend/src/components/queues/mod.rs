//! Components of queues: what needs attention, their table with sparklines, and their sessions.

pub mod attention;
pub mod queue_table;
pub mod session_table;
pub mod sparkline;
