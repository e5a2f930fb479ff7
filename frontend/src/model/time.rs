//! Points in time, in milliseconds since 1970, formatted for people and machines.

use chrono::{DateTime, SecondsFormat, Utc};

use super::span;

/// Time relative to `now`: "12 s ago", "in 3 min", "just now".
pub fn relative(ms: i64, now: i64) -> String {
    match now.saturating_sub(ms) {
        // Small differences are ignored, because the clocks of two machines are never quite the same.
        -1_999..2_000 => "just now".into(),
        ago @ 2_000.. => format!("{} ago", span::coarse(ago)),
        ahead => format!("in {}", span::coarse(ahead.saturating_neg())),
    }
}

/// Time as RFC 3339 in UTC, for machines: `2026-11-24T14:02:03.120Z`.
pub fn iso(ms: i64) -> String {
    moment(ms, 0).to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Date, time and zone, such as `2026-11-24 14:02:03 UTC+01:00`, where the clock is `offset_minutes` ahead of UTC.
pub fn full(ms: i64, offset_minutes: i64) -> String {
    format!("{} {}", moment(ms, offset_minutes).format("%Y-%m-%d %H:%M:%S"), zone(offset_minutes))
}

/// Zone whose clock is `offset_minutes` ahead of UTC, such as `UTC-03:30`; `UTC` when it is not ahead.
fn zone(offset_minutes: i64) -> String {
    if offset_minutes == 0 {
        return "UTC".to_owned();
    }
    let (sign, minutes) = (if offset_minutes < 0 { '-' } else { '+' }, offset_minutes.unsigned_abs());
    format!("UTC{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}

/// Time of day, such as `14:02`, where the clock is `offset_minutes` ahead of UTC.
pub fn clock(ms: i64, offset_minutes: i64) -> String {
    moment(ms, offset_minutes).format("%H:%M").to_string()
}

/// The time that a clock shows which is `offset_minutes` ahead of UTC. Times outside the calendar become its ends.
fn moment(ms: i64, offset_minutes: i64) -> DateTime<Utc> {
    let ends = if ms < 0 { DateTime::<Utc>::MIN_UTC } else { DateTime::<Utc>::MAX_UTC };
    DateTime::from_timestamp_millis(ms.saturating_add(offset_minutes * 60_000)).unwrap_or(ends)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_528_923_120, "2026-11-24T14:02:03.120Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(iso(ms), text);
        }
    }

    #[test]
    fn local_times_follow_the_offset_and_name_it() {
        assert_eq!(full(1_795_528_923_120, 330), "2026-11-24 19:32:03 UTC+05:30");
        assert_eq!(full(1_795_528_923_120, -210), "2026-11-24 10:32:03 UTC-03:30");
        assert_eq!(full(1_795_528_923_120, 0), "2026-11-24 14:02:03 UTC");
        assert_eq!(clock(0, -90), "22:30");
    }

    #[test]
    fn relative_times_say_which_way() {
        assert_eq!(relative(10_000, 10_500), "just now");
        assert_eq!(relative(10_500, 10_000), "just now");
        assert_eq!(relative(0, 12_400), "12 s ago");
        assert_eq!(relative(200_000, 0), "in 3 min");
        assert_eq!(relative(i64::MIN, i64::MAX).split(' ').next_back(), Some("ago"));
    }

    proptest! {
        #[test]
        fn a_time_is_read_back_as_it_was_written(ms in -2_000_000_000_000_i64..200_000_000_000_000) {
            prop_assert_eq!(DateTime::parse_from_rfc3339(&iso(ms)).unwrap().timestamp_millis(), ms);
        }

        #[test]
        fn every_time_can_be_shown(ms: i64, offset_minutes in -900_i64..900) {
            prop_assert!(!full(ms, offset_minutes).is_empty() && clock(ms, offset_minutes).len() == 5);
        }
    }
}
