//! Memory budget for the bytes of requests that are being read and of answers that are being sent.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Size in bytes up to which a message may also use the budget's reserve, so that small calls go on when large ones
/// have used up the budget.
pub(crate) const SMALL: usize = 64 * 1024;

/// Limit on the bytes that all connections together hold.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit })
    }

    /// Takes a permit for `bytes`; `None` if the budget does not have them.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Option<Permit> {
        let mut permit = Permit { budget: Arc::clone(self), bytes: 0 };
        permit.grow(bytes).then_some(permit)
    }

    fn limit(&self, message: usize) -> usize {
        if message <= SMALL { self.limit + self.limit / 8 } else { self.limit }
    }

    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// Part of a budget, released when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Permit {
    /// Enlarges the permit by `bytes`; false if the budget does not have them.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let used = self.budget.used.fetch_add(bytes, Ordering::Relaxed);
        if used.saturating_add(bytes) > self.budget.limit(self.bytes + bytes) {
            self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }

    /// Splits a permit for `bytes` off this one.
    pub(crate) fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { budget: Arc::clone(&self.budget), bytes }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_given_back_and_never_go_beyond_the_limit() {
        let budget = Budget::new(8 * SMALL);
        let mut large = budget.take(7 * SMALL).unwrap();
        assert!(budget.take(2 * SMALL).is_none());
        assert!(large.grow(SMALL));
        assert_eq!(budget.used(), 8 * SMALL);
        let piece = large.split(SMALL);
        drop(large);
        assert_eq!(budget.used(), SMALL);
        drop(piece);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn small_messages_have_a_reserve() {
        let budget = Budget::new(8 * SMALL);
        let _large = budget.take(8 * SMALL).unwrap();
        let _small = budget.take(SMALL).unwrap();
        assert!(budget.take(1).is_none());
    }
}
