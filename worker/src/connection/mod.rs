//! Connection to a server that may be away: addresses, channels, failed calls, and the calls of a worker.

pub(crate) mod address;
pub(crate) mod backoff;
pub(crate) mod channel;
pub(crate) mod connectivity;
pub(crate) mod shared_channel;
pub(crate) mod status;
pub(crate) mod tls;
pub(crate) mod worker_calls;
