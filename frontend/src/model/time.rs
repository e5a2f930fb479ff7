//! Points in time, in milliseconds since 1970, formatted for people and machines.

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
    let c = civil(ms);
    format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", c.year, c.month, c.day, c.hour, c.minute, c.second, c.milli)
}

/// Date and time, such as `2026-11-24 14:02:03`, where the clock is `offset_minutes` ahead of UTC.
pub fn full(ms: i64, offset_minutes: i64) -> String {
    let c = civil(ms.saturating_add(offset_minutes * 60_000));
    format!("{:04}-{:02}-{:02} {:02}:{:02}:{:02}", c.year, c.month, c.day, c.hour, c.minute, c.second)
}

/// Time of day, such as `14:02`, where the clock is `offset_minutes` ahead of UTC.
pub fn clock(ms: i64, offset_minutes: i64) -> String {
    let c = civil(ms.saturating_add(offset_minutes * 60_000));
    format!("{:02}:{:02}", c.hour, c.minute)
}

struct Civil {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    milli: i64,
}

/// Proleptic Gregorian date. Years are counted from 1 March in eras of 400 years, so that leap days come last.
fn civil(ms: i64) -> Civil {
    let (days, in_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let since_era = days + 719_468;
    let (era, day_of_era) = (since_era.div_euclid(146_097), since_era.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    Civil {
        year: era * 400 + year_of_era + i64::from(month <= 2),
        month,
        day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
        hour: in_day / 3_600_000,
        minute: in_day / 60_000 % 60,
        second: in_day / 1_000 % 60,
        milli: in_day % 1_000,
    }
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
    fn local_times_follow_the_offset() {
        assert_eq!(full(1_795_528_923_120, 330), "2026-11-24 19:32:03");
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
        fn a_day_later_is_the_next_day(day in -100_000_i64..100_000) {
            let (a, b) = (civil(day * 86_400_000), civil((day + 1) * 86_400_000));
            prop_assert!(b.day == a.day + 1 || (b.day == 1 && a.day >= 28));
            prop_assert!((1..=12).contains(&a.month));
        }
    }
}
