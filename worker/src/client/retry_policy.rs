//! Retry policy of a job to be submitted.

use std::time::Duration;

use jobqueue_shared::proto::v1 as proto;

use crate::fields;

/// Retry policy: the delay before attempt n+1 is `initial × factor^(n−1)`, at most `max`, varied by ± `jitter`. Values
/// that are not set take the server's defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RetryPolicy(pub(crate) proto::RetryPolicy);

impl RetryPolicy {
    pub fn new() -> Self {
        Self::default()
    }

    /// Delay after the first attempt, 0 to a year. Default: 5 s.
    pub fn initial(mut self, delay: Duration) -> Self {
        self.0.initial = Some(fields::duration(delay));
        self
    }

    /// Factor by which the delay grows, 1 to 100. Default: 2.
    pub fn factor(mut self, factor: f64) -> Self {
        self.0.factor = Some(factor);
        self
    }

    /// Longest delay, up to a year and not below `initial`. Default: 1 h.
    pub fn max(mut self, delay: Duration) -> Self {
        self.0.max = Some(fields::duration(delay));
        self
    }

    /// Share of the delay by which it varies either way, 0 to 1. Default: 0.2.
    pub fn jitter(mut self, share: f64) -> Self {
        self.0.jitter = Some(share);
        self
    }
}
