//! Conversion between protobuf times and milliseconds since 1970, the internal form.

use prost_types::{Duration, Timestamp};

pub fn timestamp(ms: i64) -> Timestamp {
    Timestamp { seconds: ms.div_euclid(1_000), nanos: (ms.rem_euclid(1_000) * 1_000_000) as i32 }
}

pub fn duration(ms: i64) -> Duration {
    Duration { seconds: ms / 1_000, nanos: (ms % 1_000 * 1_000_000) as i32 }
}

/// Converts to milliseconds, rounded down; saturates at the limits of i64. The parts need not be normalised.
pub fn timestamp_ms(time: &Timestamp) -> i64 {
    time.seconds.saturating_mul(1_000).saturating_add(i64::from(time.nanos).div_euclid(1_000_000))
}

/// Converts to milliseconds, truncated; saturates at the limits of i64.
pub fn duration_ms(duration: &Duration) -> i64 {
    duration.seconds.saturating_mul(1_000).saturating_add(i64::from(duration.nanos) / 1_000_000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn times_survive_the_trip(ms in -4_000_000_000_000_i64..4_000_000_000_000) {
            prop_assert_eq!(timestamp_ms(&timestamp(ms)), ms);
            prop_assert_eq!(duration_ms(&duration(ms)), ms);
            prop_assert!((0..1_000_000_000).contains(&timestamp(ms).nanos));
        }

        #[test]
        fn no_time_overflows(seconds: i64, nanos: i32) {
            timestamp_ms(&Timestamp { seconds, nanos });
            duration_ms(&Duration { seconds, nanos });
        }
    }
}
