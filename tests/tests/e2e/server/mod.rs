//! The server process.

mod clocks;
mod command_line;
mod logging;
mod overload;
mod pressure;
mod rolling;
mod servers;
mod shutdown;
mod tls;
