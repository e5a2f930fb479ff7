//! Dates, times and lengths of time in text. Times without a zone are UTC.

use prost_types::Timestamp;

pub(super) const DAY_MS: i64 = 86_400_000;
const DAY_S: i64 = 86_400;

/// A point of time in text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Moment {
    /// Start of a day, in seconds since 1970.
    Date(i64),
    Time(Timestamp),
}

impl Moment {
    pub(super) fn start(self) -> Timestamp {
        match self {
            Self::Date(seconds) => Timestamp { seconds, nanos: 0 },
            Self::Time(time) => time,
        }
    }

    /// End of the day; of a time, the next millisecond.
    pub(super) fn end(self) -> Timestamp {
        match self {
            Self::Date(seconds) => Timestamp { seconds: seconds + DAY_S, nanos: 0 },
            Self::Time(Timestamp { seconds, nanos }) => {
                let nanos = nanos + 1_000_000;
                Timestamp { seconds: seconds + i64::from(nanos / 1_000_000_000), nanos: nanos % 1_000_000_000 }
            }
        }
    }
}

/// Parses `2026-11-29`, or `2026-11-29T08:30`, with seconds, fractions of them and a zone if given.
pub(super) fn moment(text: &str) -> Option<Moment> {
    let Some((date, time)) = text.split_once(['T', 't']) else { return Some(Moment::Date(day(text)? * DAY_S)) };
    let zone = time.find(['Z', 'z', '+', '-']).unwrap_or(time.len());
    let (time, zone) = time.split_at(zone);
    let mut parts = time.split(':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next().unwrap_or("00"));
    if parts.next().is_some() {
        return None;
    }
    let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    if fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let nanos = digits(fraction, fraction.len())? * 10_i64.pow(9 - fraction.len() as u32);
    let (hours, minutes, seconds) = (digits(hours, 2)?, digits(minutes, 2)?, digits(seconds, 2)?);
    if hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    let seconds = day(date)? * DAY_S + hours * 3_600 + minutes * 60 + seconds - offset(zone)?;
    Some(Moment::Time(Timestamp { seconds, nanos: nanos as i32 }))
}

/// Offset of a zone from UTC in seconds.
fn offset(zone: &str) -> Option<i64> {
    let sign = match zone.chars().next() {
        None => return Some(0),
        Some('Z' | 'z') => return (zone.len() == 1).then_some(0),
        Some('-') => -1,
        Some(_) => 1,
    };
    let (hours, minutes) = zone[1..].split_once(':')?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

fn digits(text: &str, number: usize) -> Option<i64> {
    (text.len() == number && text.bytes().all(|it| it.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// Day since 1970 of a date.
fn day(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let (year, month, day) = (digits(parts.next()?, 4)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if parts.next().is_some() || year == 0 || !(1..=days).contains(&day) {
        return None;
    }
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": years begin in March, so that leap days end them.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// Year, month and day of a day since 1970.
fn civil(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

/// Prints a time that [`moment`] reads, in UTC.
pub(super) fn print(time: &Timestamp) -> String {
    let (day, second) = (time.seconds.div_euclid(DAY_S), time.seconds.rem_euclid(DAY_S));
    let (year, month, day) = civil(day);
    let fraction = format!(".{:09}", time.nanos);
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}{fraction}Z", second / 3_600, second / 60 % 60, second % 60)
}

/// Parses a length of time such as `90s`, `1h30m` or `2w`, in milliseconds; at most 100 years.
pub(super) fn length_ms(text: &str) -> Option<i64> {
    let (mut rest, mut sum) = (text, 0_i64);
    while !rest.is_empty() {
        let number = rest.find(|it: char| !it.is_ascii_digit())?;
        let unit = rest[number..].find(|it: char| it.is_ascii_digit()).map_or(rest.len(), |end| number + end);
        let scale = match &rest[number..unit] {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => DAY_MS,
            "w" => 7 * DAY_MS,
            _ => return None,
        };
        sum = sum.checked_add(rest[..number].parse::<i64>().ok()?.checked_mul(scale)?)?;
        rest = &rest[unit..];
    }
    (!text.is_empty() && sum <= 36_525 * DAY_MS).then_some(sum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let time = |seconds, nanos| Some(Moment::Time(Timestamp { seconds, nanos }));
        assert_eq!(moment("1970-01-02"), Some(Moment::Date(86_400)));
        assert_eq!(moment("2026-11-29T08:30"), time(1_795_941_000, 0));
        assert_eq!(moment("2026-11-29T08:30:00.25Z"), time(1_795_941_000, 250_000_000));
        assert_eq!(moment("2026-11-29T10:30:00+02:00"), time(1_795_941_000, 0));
        assert_eq!(moment("2024-02-29"), Some(Moment::Date(1_709_164_800)));
        for wrong in [
            "",
            "2026",
            "2026-13-01",
            "2026-02-29",
            "2026-11-31",
            "26-11-29",
            "2026-11-29T",
            "2026-11-29T24:00",
            "2026-11-29T08",
            "2026-11-29T08:60",
            "2026-11-29T08:30+2",
            "2026-11-29T08:30:00.",
            "0000-01-01",
            "T",
        ] {
            assert_eq!(moment(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn lengths_are_read_with_their_units() {
        for (text, ms) in [("90s", 90_000), ("1h30m", 5_400_000), ("2w", 14 * DAY_MS), ("250ms", 250), ("0s", 0)] {
            assert_eq!(length_ms(text), Some(ms), "{text}");
        }
        for wrong in ["", "5", "h", "5y", "-5s", "1.5h", "99999999999999999999s", "9999999w", "5h3"] {
            assert_eq!(length_ms(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn printed_times_are_read_back(seconds in -62_135_596_800_i64..253_402_300_799, nanos in 0..1_000_000_000_i32) {
            let time = Timestamp { seconds, nanos };
            prop_assert_eq!(moment(&print(&time)), Some(Moment::Time(time)));
        }

        #[test]
        fn no_text_panics(text in "[0-9TZ:+.\\-hmsdé]{0,30}") {
            moment(&text);
            length_ms(&text);
        }
    }
}
