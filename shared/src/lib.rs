//! Definitions that all parts of jobqueue share. Without its features the crate does no I/O, and it compiles to wasm32.
//!
//! Modules in reading order: [`proto`] is the API; [`limits`] are the API's limits; [`state`] is the state machine of a
//! job; [`retry`] computes the delay between attempts; [`lease`] is a worker's right to settle an attempt; [`json`]
//! validates payloads; [`filter`] parses, prints and checks filters; [`sub_state`] tells pending jobs apart; [`time`] and
//! [`status`] convert. Servers and native programs also share write coalescing
//! (`write_coalescing`), connections (`connect`), the parsing of settings (`settings`), and a log writer that never blocks
//! (`logs`).

#[cfg(feature = "transport")]
pub mod connect;
pub mod filter;
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
pub mod sub_state;
pub mod time;
#[cfg(any(feature = "server", feature = "transport"))]
pub mod write_coalescing;

/// Generated messages, clients and servers of `proto/jobqueue/v1`.
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

    /// Compiled .proto files, for gRPC reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}
