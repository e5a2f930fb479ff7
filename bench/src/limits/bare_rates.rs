//! Rates of a store with nothing around it.

/// Rates in jobs per second of jobqueue's statements, or of the store that makes them, without a network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BareRates {
    pub(crate) insert: f64,
    /// Insert, acquire and settle.
    pub(crate) cycle: f64,
    /// Acquire and settle; measured for PostgreSQL only.
    pub(crate) drain: Option<f64>,
}
