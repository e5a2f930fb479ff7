//! Pace of a page's requests: quick while somebody is there, slow in a tab that nobody touches.

/// Time in milliseconds without a key, a press or a movement after which nobody is there.
pub const IDLE_MS: i64 = 60_000;
/// Maximum number of requests a minute of a tab that nobody touches.
const IDLE_REQUESTS: u32 = 18;
/// Least pause in milliseconds of a feed in such a tab: the counts of a thousand worker_ids are 40 KiB each time.
const IDLE_PAUSE: u32 = 10_000;

/// Milliseconds that a feed waits before its next request. `wanted` is its own pace, `feeds` the number of feeds on the
/// page, `untouched` the time since the person last did something.
///
/// A search that goes on by itself wants no pause and gets none: it ends soon.
pub fn pause(wanted: u32, feeds: u32, untouched: i64) -> u32 {
    if untouched < IDLE_MS || wanted == 0 { wanted } else { wanted.max(IDLE_PAUSE).max(60_000 / IDLE_REQUESTS * feeds) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_page_is_quick_while_somebody_is_there() {
        assert_eq!(pause(3_000, 4, 0), 3_000);
        assert_eq!(pause(3_000, 4, IDLE_MS - 1), 3_000);
        assert_eq!(pause(3_000, 4, IDLE_MS), 13_332);
        assert_eq!((pause(3_000, 1, IDLE_MS), pause(15_000, 1, IDLE_MS)), (10_000, 15_000));
        assert_eq!(pause(0, 4, IDLE_MS), 0);
    }

    proptest! {
        #[test]
        fn a_tab_that_nobody_touches_makes_at_most_twenty_requests_a_minute(wanted in 1_u32..60_000, feeds in 1_u32..20) {
            let each = f64::from(pause(wanted, feeds, IDLE_MS));
            prop_assert!(f64::from(feeds) * 60_000.0 / each <= 20.0);
        }
    }
}
