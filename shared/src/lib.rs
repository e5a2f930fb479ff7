//! What every part of jobqueue agrees on. Without its features no I/O, and it compiles to wasm32.
//!
//! Read in this order: [`proto`] is the API; [`limits`] what it accepts; [`state`] how a job moves;
//! [`retry`] how long it waits between attempts; [`lease`] what lets a worker finish an attempt;
//! [`json`] checks payloads; [`time`] and [`status`] convert. Servers and native programs also share how a connection
//! writes (`gather`), how it is made (`connect`), how settings are read (`settings`), and a log writer that never blocks
//! (`logs`).

#[cfg(feature = "transport")]
pub mod connect;
#[cfg(any(feature = "server", feature = "transport"))]
pub mod gather;
pub mod json;
pub mod lease;
pub mod limits;
#[cfg(feature = "logs")]
pub mod logs;
pub mod retry;
#[cfg(feature = "settings")]
pub mod settings;
pub mod state;
pub mod status;
pub mod time;

/// The generated messages, clients and servers of `proto/jobqueue/v1`.
pub mod proto {
    #![expect(
        clippy::all,
        clippy::pedantic,
        clippy::allow_attributes_without_reason,
        missing_docs,
        reason = "generated code is not ours to lint"
    )]

    /// Package `jobqueue.v1`.
    pub mod v1 {
        tonic::include_proto!("jobqueue.v1");
    }

    /// The compiled .proto files, for gRPC reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}
